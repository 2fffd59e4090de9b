"""A data set on disk: one folder, written whole or not at all, and checked when it is read.

The folder holds four arrays and a manifest with the size and SHA-256 of each (the *seal*).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from tokenize import TokenError

import numpy as np

from mpfl.data.dataset import ARRAYS, Dataset, channel_stats
from mpfl.types import MPFLError

# A file up to this size is hashed at every load (0.2 s at most). A larger one is memory-mapped
# and checked by size and header; its hash is checked when it is fetched, and by ``full=True``.
HASHED_BYTES = 256 * 2**20


@contextmanager
def folder_for(path: Path) -> Iterator[None]:
    """A folder to write into; if that fails, what was made for it is gone again."""
    made = [each for each in (path, *path.parents) if not each.exists()]
    path.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        for each in made:
            with suppress(OSError):  # something else is in it by now
                each.rmdir()
        raise


@contextmanager
def staging(target: Path) -> Iterator[Path]:
    """An empty folder that takes the place of ``target`` if the block ends without an error.

    Law: whatever goes wrong inside, ``target`` stays as it was. The parent of the new folder is
    scratch space, and is removed in the end.
    """
    with (
        folder_for(target.parent),
        TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as scratch,
    ):
        new, old = Path(scratch, "new"), Path(scratch, "old")
        new.mkdir()
        yield new
        if target.exists():  # a full folder cannot be replaced in one step
            os.replace(target, old)
        try:
            os.replace(new, target)
        except OSError:
            if old.exists():
                os.replace(old, target)
            raise


def seal(new: Path, name: str, classes: Sequence[str], origin: str) -> None:
    """Check the four arrays in folder ``new``, and write their manifest.

    ``origin`` says where the data came from. Raises :class:`MPFLError` if the arrays do not
    make a :class:`Dataset`.
    """
    arrays = {array: np.load(new / f"{array}.npy", mmap_mode="r") for array in ARRAYS}
    mean, std = channel_stats(arrays["train_images"])
    Dataset(name, **arrays, classes=tuple(classes), mean=mean, std=std)
    manifest = {
        "name": name,
        "origin": origin,
        "mean": mean,
        "std": std,
        "files": {
            path.name: {"bytes": path.stat().st_size, "sha256": sha256(path)}
            for path in (new / f"{array}.npy" for array in ARRAYS)
        },
        "classes": list(classes),
    }
    (new / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


def open_sealed(target: Path, remedy: str, *, full: bool = False) -> Dataset:
    """Load a sealed folder; ``full`` hashes the large files too.

    Raises :class:`MPFLError` that names the damaged file and the ``remedy``.
    """
    try:
        manifest = json.loads((target / "manifest.json").read_text(encoding="utf-8"))
        entries = {array: manifest["files"][f"{array}.npy"] for array in ARRAYS}
        files = {array: (entry["bytes"], str(entry["sha256"])) for array, entry in entries.items()}
        mean, std = (tuple(map(float, manifest[key])) for key in ("mean", "std"))
        name, classes = manifest["name"], tuple(manifest["classes"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        path = target / "manifest.json"
        raise MPFLError(f"{path} is missing or damaged ({error!r}): {remedy}") from error
    arrays = {}
    for array, (due, seal_) in files.items():
        path = target / f"{array}.npy"
        if not path.is_file():
            raise MPFLError(f"{path} is missing or damaged (it is no file): {remedy}")
        if (size := path.stat().st_size) != due:
            raise MPFLError(f"{path} is damaged ({size} bytes, not {due}): {remedy}")
        large = size > HASHED_BYTES
        if (full or not large) and (digest := sha256(path)) != seal_:
            wrong = f"SHA-256 {digest[:12]}…, not {seal_[:12]}…"
            raise MPFLError(f"{path} is damaged ({wrong}): {remedy}")
        try:
            arrays[array] = np.load(path, mmap_mode="c" if large else None, allow_pickle=False)
        except (ValueError, EOFError, SyntaxError, TokenError) as error:
            raise MPFLError(f"{path} is damaged ({error}): {remedy}") from error
    return Dataset(name, **arrays, classes=classes, mean=mean, std=std)


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
