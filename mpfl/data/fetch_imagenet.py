"""ImageNet100 and its stand-in at 64 pixels: unpacked, checked, put in place."""

from __future__ import annotations

import hashlib
import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np

from mpfl.data.catalogue import fetch_command
from mpfl.data.imagenet import TINY_CLASSES, kaggle_listing, pack_kaggle, tiny_listing
from mpfl.data.pictures import pack
from mpfl.data.store import seal, sha256, staging
from mpfl.data.transfer import UNREADABLE, bar, download
from mpfl.types import MPFLError

TINY_URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
TINY_MD5 = "90528d7ca1a48142e341f4ef8d21d0de"
TINY_COUNTS = (500, 50)  # training and test pictures a class


# --- ImageNet100, and its stand-in at 64 pixels --------------------------------------------


def fetch_imagenet100(target: Path, source: Path | None, progress: bool, pixels: int) -> None:
    """From the unpacked Kaggle folder only: Kaggle asks for an account."""
    found = source or target.parent
    if not (found / "Labels.json").exists():
        raise MPFLError(
            f"{found} holds no Labels.json: imagenet100 needs a Kaggle account; get and unpack "
            "it as data/README.md says, then run "
            f"'{fetch_command('imagenet100', target.parent.parent, '--from FOLDER')}'"
        )
    total = sum(len(listing) for listing in kaggle_listing(found)[:2])
    with bar(progress, f"pack at {pixels} px", total) as tick:
        pack_kaggle(target, found, pixels, tick)


def fetch_imagenet64(target: Path, source: Path | None, progress: bool) -> None:
    """From the shards, or from Tiny ImageNet (an archive, its folder, or its address)."""
    with staging(target) as new:
        scratch = new.parent
        if source is None:
            source = _download_tiny(target, scratch, progress)
        if source.is_dir() and (source / "tiny-imagenet-200.zip").exists():
            source = source / "tiny-imagenet-200.zip"
        try:
            if source.is_file():
                _unpack_tiny(source, scratch, progress)
                listings, origin = tiny_listing(scratch / "tiny-imagenet-200"), "Tiny ImageNet"
            elif (source / "tiny-imagenet-200").is_dir() or (source / "wnids.txt").exists():
                inner = source / "tiny-imagenet-200"
                listings = tiny_listing(inner if inner.is_dir() else source)
                origin = "Tiny ImageNet"
            else:
                _unpack_shards(source, scratch, progress)
                listings, origin = kaggle_listing(scratch / "raw"), "imagenet100-64 shards"
        except UNREADABLE as error:
            raise MPFLError(f"{source} cannot be read ({error}): get it again") from error
        train, test, names = listings
        for split, listing, each in zip(("train", "val"), (train, test), TINY_COUNTS, strict=True):
            counts = np.bincount([label for _, label in listing], minlength=len(names))
            if (counts != each).any():
                raise MPFLError(f"{source}: not {each} {split} pictures a class: get it again")
        with bar(progress, "decode imagenet100-64", len(train) + len(test)) as tick:
            pack(new, train, test, 64, tick)
        seal(new, "imagenet100-64", names, origin)


def _download_tiny(target: Path, scratch: Path, progress: bool) -> Path:
    try:
        return download(TINY_URL, scratch / "tiny-imagenet-200.zip", progress)
    except OSError as error:
        raise MPFLError(
            f"imagenet100-64 could not be fetched into {target}: {TINY_URL}: {error}; by hand: "
            "get that file, or the shards, as data/README.md says, then run "
            f"'{fetch_command('imagenet100-64', target.parent, '--from PATH')}'"
        ) from error


def _unpack_shards(source: Path, scratch: Path, progress: bool) -> None:
    """Check the shards against ``SHA256SUMS``, and merge them into ``scratch/raw``."""
    sums = source / "SHA256SUMS"
    if not sums.exists():
        raise MPFLError(f"{source} holds neither SHA256SUMS nor Tiny ImageNet: see data/README.md")
    entries = [line.split() for line in sums.read_text(encoding="utf-8").splitlines()]
    shards = {name: digest for digest, name in entries if name.endswith(".tar.xz")}
    with bar(progress, "unpack the shards", len(shards)) as tick:
        for name, digest in shards.items():
            if not (source / name).exists() or sha256(source / name) != digest:
                raise MPFLError(f"{source / name} is missing or damaged: get it again")
            with tarfile.open(source / name) as archive:
                archive.extractall(scratch / "raw", filter="data")
            tick()


def _unpack_tiny(path: Path, scratch: Path, progress: bool) -> None:
    """Unpack what we use of Tiny ImageNet's archive, its MD5 checked first."""
    with path.open("rb") as file:
        if hashlib.file_digest(file, "md5").hexdigest() != TINY_MD5:
            raise MPFLError(f"{path} is not the published archive (MD5): get it again")
    keep = {*json.loads(TINY_CLASSES.read_text(encoding="utf-8")), "val"}
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if keep & set(name.split("/"))]
        with bar(progress, "unpack Tiny ImageNet", len(names)) as tick:
            for name in names:
                archive.extract(name, scratch)
                tick()
