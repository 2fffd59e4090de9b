"""Getting ImageNet100, and its stand-in at 64 pixels: unpacked, checked, put in place."""

from __future__ import annotations

import hashlib
import tarfile
import zipfile
from pathlib import Path

import numpy as np

from mpfl.data.catalogue import fetch_command
from mpfl.data.imagenet import kaggle_listing, pack_kaggle, stand_in_classes, tiny_listing
from mpfl.data.pictures import Listing, pack
from mpfl.data.store import seal, sha256, staging
from mpfl.data.transfer import UNREADABLE, bar, download
from mpfl.types import MPFLError

TINY = "tiny-imagenet-200"
TINY_URL = f"http://cs231n.stanford.edu/{TINY}.zip"
TINY_MD5 = "90528d7ca1a48142e341f4ef8d21d0de"
TINY_COUNTS = (500, 50)  # training and test pictures per class


def fetch_imagenet100(target: Path, source: Path | None, progress: bool, pixels: int) -> None:
    """From the unpacked Kaggle folder only, since Kaggle asks for an account."""
    folder = source or target.parent
    if not (folder / "Labels.json").exists():
        raise MPFLError(
            f"{folder} holds no Labels.json: imagenet100 needs a Kaggle account; get and unpack "
            "it as data/README.md says, then run "
            f"'{fetch_command('imagenet100', target.parent.parent, '--from FOLDER')}'"
        )
    total = sum(len(listing) for listing in kaggle_listing(folder)[:2])
    with bar(progress, f"pack at {pixels} px", total) as tick:
        pack_kaggle(target, folder, pixels, tick)


def fetch_imagenet64(target: Path, source: Path | None, progress: bool) -> None:
    """From the shards, or from Tiny ImageNet: its archive, its folder, or its address."""
    with staging(target) as new:
        scratch = new.parent
        if source is None:
            source = _download_tiny(target, scratch, progress)
        if (source / f"{TINY}.zip").exists():
            source = source / f"{TINY}.zip"
        try:
            origin, train, test, names = _unpacked(source, scratch, progress)
        except UNREADABLE as error:
            why = " ".join(str(error).split())  # an archive's says what each format had against it
            raise MPFLError(f"{source} cannot be read ({why}): get it again") from error
        for split, listing, count in zip(("train", "val"), (train, test), TINY_COUNTS, strict=True):
            counts = np.bincount([label for _, label in listing], minlength=len(names))
            if (counts != count).any():
                raise MPFLError(f"{source}: not {count} {split} pictures per class: get it again")
        with bar(progress, "decode imagenet100-64", len(train) + len(test)) as tick:
            pack(new, train, test, 64, tick)
        seal(new, "imagenet100-64", names, origin)


def _download_tiny(target: Path, scratch: Path, progress: bool) -> Path:
    try:
        return download(TINY_URL, scratch / f"{TINY}.zip", progress)
    except OSError as error:
        raise MPFLError(
            f"imagenet100-64 could not be fetched into {target}: {TINY_URL}: {error}; by hand: "
            "get that file, or the shards, as data/README.md says, then run "
            f"'{fetch_command('imagenet100-64', target.parent, '--from PATH')}'"
        ) from error


def _unpacked(
    source: Path, scratch: Path, progress: bool
) -> tuple[str, Listing, Listing, tuple[str, ...]]:
    """What ``source`` turns out to be, and its listings, unpacked into ``scratch`` if packed."""
    if source.is_file():
        _unpack_tiny(source, scratch, progress)
        source = scratch
    if (source / TINY).is_dir():
        return "Tiny ImageNet", *tiny_listing(source / TINY)
    if (source / "wnids.txt").exists():
        return "Tiny ImageNet", *tiny_listing(source)
    _unpack_shards(source, scratch, progress)
    return "imagenet100-64 shards", *kaggle_listing(scratch / "raw", f"{source}, unpacked")


def _unpack_tiny(path: Path, scratch: Path, progress: bool) -> None:
    """Check the MD5 of Tiny ImageNet's archive, then unpack the parts that we use."""
    with path.open("rb") as file:
        if hashlib.file_digest(file, "md5").hexdigest() != TINY_MD5:
            raise MPFLError(f"{path} is not the published archive (MD5): get it again")
    keep = {*stand_in_classes(), "val"}
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if keep & set(name.split("/"))]
        with bar(progress, "unpack Tiny ImageNet", len(names)) as tick:
            for name in names:
                archive.extract(name, scratch)
                tick()


def _unpack_shards(source: Path, scratch: Path, progress: bool) -> None:
    """Check the shards against ``SHA256SUMS``, and merge them into ``scratch/raw``."""
    sums = source / "SHA256SUMS"
    if not sums.exists():
        raise MPFLError(f"{source} holds neither SHA256SUMS nor Tiny ImageNet: see data/README.md")
    lines = sums.read_text(encoding="utf-8").splitlines()
    entries = [entry for line in lines if len(entry := line.split()) == 2]
    shards = {name: digest for digest, name in entries if name.endswith(".tar.xz")}
    if not shards:
        raise MPFLError(f"{sums} names no shard (lines of SHA-256 and NAME.tar.xz): get it again")
    with bar(progress, "unpack the shards", len(shards)) as tick:
        for name, digest in shards.items():
            if not (source / name).exists() or sha256(source / name) != digest:
                raise MPFLError(f"{source / name} is missing or damaged: get it again")
            with tarfile.open(source / name) as archive:
                archive.extractall(scratch / "raw", filter="data")
            tick()
