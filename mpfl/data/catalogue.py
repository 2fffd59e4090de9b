"""The data sets by name: where they lie, and how one is loaded."""

from __future__ import annotations

import difflib
from pathlib import Path

import numpy as np

from mpfl.data.dataset import Dataset, channel_stats
from mpfl.data.imagenet import pack_kaggle
from mpfl.seeds import rng_for
from mpfl.types import MPFLError

NAMES = ("digits", "cifar10", "imagenet100", "imagenet100-64")


def load(name: str, root: Path = Path("data"), *, pixels: int = 64) -> Dataset:
    """Read a data set, checked, from ``root``.

    ``pixels`` (height and width) is for ``imagenet100`` only. That set, about 130,000
    photographs, does not fit in memory at full size: the first load at a given ``pixels`` goes
    once over ``root/imagenet100``, crops each picture to its central square, resizes it and
    keeps the result beside (1.6 GB at 64, 20 GB at 224); later loads map that.
    Large arrays are mapped copy-on-write: parts never read cost no memory, and writing to
    the array does not touch the file.

    Raises :class:`MPFLError` where the name is unknown, the set is missing or damaged.
    """
    check_known(name)
    root = Path(root)
    if name == "digits":
        return _digits()
    target = folder_of(name, root, pixels)
    if name == "imagenet100" and not target.exists() and (target.parent / "Labels.json").exists():
        pack_kaggle(target, target.parent, pixels)
    if not target.exists():
        remedy = f"run '{fetch_command(name, root)}', or get it by hand as data/README.md says"
        if name == "imagenet100":
            remedy = f"see data/README.md, then run '{fetch_command(name, root, '--from FOLDER')}'"
        raise MPFLError(f"data set {name!r} is not in {target}: {remedy}")
    return open_sealed(target, f"run '{fetch_command(name, root, '--force')}'")


def check_known(name: str) -> None:
    """Raise :class:`MPFLError` with the nearest known name where ``name`` is none."""
    if name not in NAMES:
        near = difflib.get_close_matches(name.lower(), NAMES, n=1, cutoff=0.0)[0]
        every = ", ".join(NAMES)
        raise MPFLError(f"data set {name!r} is unknown: did you mean {near!r}? Known: {every}")


def folder_of(name: str, root: Path, pixels: int = 64) -> Path:
    """Where the arrays of a set lie under ``root``."""
    if pixels < 1:
        raise MPFLError(f"data set {name!r}: pixels is {pixels}; give 1 or more")
    return root / name / f"{pixels}px" if name == "imagenet100" else root / name


def fetch_command(name: str, root: Path, *flags: str) -> str:
    """The command line that fetches ``name`` into ``root``."""
    where = "" if root == Path("data") else f"--root {root}"
    return " ".join(filter(None, ["python -m mpfl data", name, *flags, where]))


def _digits() -> Dataset:
    """scikit-learn's own copy of the UCI digits: 1,797 images of 8 x 8, nothing to fetch.

    About a fifth of each class is the test set, drawn once for all.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    # 0..16 to 0..255, rounded: 17 levels stay 17 levels.
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[:, None]
    labels = bunch.target.astype(np.int64)
    rng = rng_for(0, "data", "digits")
    test = np.zeros(len(labels), dtype=bool)
    for label in range(10):
        members = rng.permutation(np.flatnonzero(labels == label))
        test[members[: round(len(members) / 5)]] = True
    mean, std = channel_stats(images[~test])
    classes = tuple(str(label) for label in range(10))
    train = images[~test], labels[~test]
    return Dataset("digits", *train, images[test], labels[test], classes, mean, std)
