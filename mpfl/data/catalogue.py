"""The data sets by name: where each one lies, and how it is loaded."""

from __future__ import annotations

from pathlib import Path

from mpfl.data.dataset import Dataset
from mpfl.data.digits import uci_digits
from mpfl.data.imagenet import pack_kaggle
from mpfl.data.store import open_sealed
from mpfl.types import MPFLError, one_of

NAMES = ("digits", "cifar10", "imagenet100", "imagenet100-64")


def load(name: str, root: Path = Path("data"), *, pixels: int = 64) -> Dataset:
    """Read a data set from ``root``, and check it.

    ``pixels`` (height and width) is for ``imagenet100`` only. That set, about 130,000
    photographs, does not fit in memory at full size. The first load at a given ``pixels``
    reads ``root/imagenet100`` once, crops each picture to its central square, resizes it and
    stores the result beside it (1.6 GB at 64, 20 GB at 224); later loads map that file.
    Large arrays are mapped copy-on-write: parts that are never read cost no memory, and writing
    to the array does not touch the file.

    >>> load("digits").train_images.shape
    (1438, 1, 8, 8)

    Raises :class:`MPFLError` if the name is unknown, or the set is missing or damaged.
    """
    check_known(name)
    root = Path(root)
    if name == "digits":
        return uci_digits()
    target = folder_of(name, root, pixels)
    if name == "imagenet100" and not target.exists() and (target.parent / "Labels.json").exists():
        pack_kaggle(target, target.parent, pixels)
    if not target.exists():
        remedy = f"run '{fetch_command(name, root)}', or get it by hand as data/README.md says"
        if name == "imagenet100":
            remedy = f"see data/README.md, then run '{fetch_command(name, root, '--from FOLDER')}'"
        raise MPFLError(f"data set {name!r} is not in {target}: {remedy}")
    return open_set(name, root, pixels)


def open_set(name: str, root: Path, pixels: int = 64, *, full: bool = False) -> Dataset:
    """Read what lies where the arrays of ``name`` do; ``full`` hashes the large files too.

    Raises :class:`MPFLError` if they are damaged, or those of another set.
    """
    target, remedy = folder_of(name, root, pixels), f"run '{fetch_command(name, root, '--force')}'"
    found = open_sealed(target, remedy, full=full)
    if found.name != name:
        raise MPFLError(f"{target}: holds the data set {found.name!r}, not {name!r}: {remedy}")
    return found


def check_known(name: str) -> None:
    """Raise :class:`MPFLError`, with the nearest known name, if no data set is called ``name``."""
    one_of("data set", name, NAMES)


def folder_of(name: str, root: Path, pixels: int = 64) -> Path:
    """Where the arrays of a set lie under ``root``.

    >>> folder_of("imagenet100", Path("data"), pixels=224).as_posix()
    'data/imagenet100/224px'
    """
    if pixels < 1:
        raise MPFLError(f"data set {name!r}: pixels is {pixels}; give 1 or more")
    return root / name / f"{pixels}px" if name == "imagenet100" else root / name


def fetch_command(name: str, root: Path, *flags: str) -> str:
    """The command line that fetches ``name`` into ``root``.

    >>> fetch_command("cifar10", Path("/sets"), "--force")
    'python -m mpfl data cifar10 --force --root /sets'
    """
    where = "" if root == Path("data") else f"--root {root}"
    return " ".join(filter(None, ["python -m mpfl data", name, *flags, where]))
