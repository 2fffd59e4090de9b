"""What a data set is, and how one is read from disk.

A fetched set is one folder: four plain ``.npy`` files (``ARRAYS``) and a ``manifest.json`` with
their sizes, their SHA-256, the classes and the channel statistics; ``mpfl.download`` fills it.
Nothing here unpickles, and nothing falls back to other data.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from mpfl.seeds import rng_for
from mpfl.types import MPFLError

NAMES = ("digits", "cifar10", "imagenet100", "imagenet100-64")
ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")
# A file up to this size is hashed at every load (0.2 s at most). A larger one is memory-mapped
# and checked by size and header; its hash is checked when it is fetched, and by ``full=True``.
HASHED_BYTES = 256 * 2**20

Tick = Callable[[], object]
Listing = list[tuple[Path, int]]  # a picture's file, its class


@dataclass(frozen=True)
class Dataset:
    """Images and labels, split in two.

    Images are uint8 ``[n, channels, height, width]``, labels int64 ``[n]`` that index
    ``classes``; ``mean`` and ``std`` are per channel, of the training images, in 0-1 units.
    Raises :class:`MPFLError` when these do not fit together.
    """

    name: str
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        for split in ("train", "test"):
            images, labels = getattr(self, f"{split}_images"), getattr(self, f"{split}_labels")
            if images.dtype != np.uint8 or images.ndim != 4:
                found = f"{images.dtype} {images.shape}"
                raise MPFLError(f"{self.name}: {split} images are {found}; give uint8 [n, c, h, w]")
            if labels.dtype != np.int64 or labels.shape != images.shape[:1]:
                found = f"{labels.dtype} {labels.shape}"
                raise MPFLError(f"{self.name}: {split} labels are {found}; give int64 [n]")
            if len(labels) == 0 or labels.min() < 0 or labels.max() >= len(self.classes):
                raise MPFLError(
                    f"{self.name}: {split} labels must be 0..{len(self.classes) - 1}, one an image"
                )
        if self.train_images.shape[1:] != self.test_images.shape[1:]:
            raise MPFLError(f"{self.name}: training and test images differ in shape; make one size")
        if not len(self.mean) == len(self.std) == self.train_images.shape[1]:
            raise MPFLError(f"{self.name}: give one mean and one std a channel")


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
    known(name)
    root = Path(root)
    if name == "digits":
        return _digits()
    target = folder(name, root, pixels)
    if name == "imagenet100" and not target.exists() and (target.parent / "Labels.json").exists():
        pack_kaggle(target, target.parent, pixels)
    if not target.exists():
        remedy = f"run '{command(name, root)}', or get it by hand as data/README.md says"
        if name == "imagenet100":
            remedy = f"see data/README.md, then run '{command(name, root, '--from FOLDER')}'"
        raise MPFLError(f"data set {name!r} is not in {target}: {remedy}")
    return read(target, f"run '{command(name, root, '--force')}'")


def known(name: str) -> None:
    """Raise :class:`MPFLError` with the nearest known name where ``name`` is none."""
    if name not in NAMES:
        near = difflib.get_close_matches(name.lower(), NAMES, n=1, cutoff=0.0)[0]
        every = ", ".join(NAMES)
        raise MPFLError(f"data set {name!r} is unknown: did you mean {near!r}? Known: {every}")


def folder(name: str, root: Path, pixels: int = 64) -> Path:
    """Where the arrays of a set lie under ``root``."""
    if pixels < 1:
        raise MPFLError(f"data set {name!r}: pixels is {pixels}; give 1 or more")
    return root / name / f"{pixels}px" if name == "imagenet100" else root / name


def command(name: str, root: Path, *flags: str) -> str:
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


def channel_stats(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, in 0-1 units, exact from the 256 levels."""
    counts = np.zeros((images.shape[1], 256), dtype=np.int64)
    for start in range(0, len(images), 1000):  # a mapped file need not fit in memory
        for channel, values in enumerate(images[start : start + 1000].swapaxes(0, 1)):
            counts[channel] += np.bincount(values.ravel(), minlength=256)
    levels, share = np.arange(256) / 255, counts / counts.sum(axis=1, keepdims=True)
    mean = share @ levels
    std = np.sqrt(share @ levels**2 - mean**2)
    return tuple(mean.tolist()), tuple(std.tolist())


# --- the folder of a set -------------------------------------------------------------------


@contextmanager
def staging(target: Path) -> Iterator[Path]:
    """An empty folder beside ``target`` that takes its place when the block ends well.

    Law: whatever goes wrong inside, ``target`` stays as it was. Its parent is scratch space
    that goes away in the end.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as scratch:
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
    """Write the manifest of a folder whose four arrays are in place."""
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


def read(target: Path, remedy: str, *, full: bool = False) -> Dataset:
    """Load a sealed folder; ``full`` hashes the large files too.

    Raises :class:`MPFLError` naming the damaged file and ``remedy``.
    """
    try:
        manifest = json.loads((target / "manifest.json").read_text(encoding="utf-8"))
        files = {array: manifest["files"][f"{array}.npy"] for array in ARRAYS}
        classes, mean, std = (tuple(manifest[key]) for key in ("classes", "mean", "std"))
        name = manifest["name"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        path = target / "manifest.json"
        raise MPFLError(f"{path} is missing or damaged ({error!r}): {remedy}") from error
    arrays = {}
    for array, entry in files.items():
        path = target / f"{array}.npy"
        size = path.stat().st_size if path.exists() else 0
        if size != entry["bytes"]:
            raise MPFLError(f"{path} is damaged ({size} bytes, not {entry['bytes']}): {remedy}")
        large = size > HASHED_BYTES
        if (full or not large) and (digest := sha256(path)) != entry["sha256"]:
            wrong = f"SHA-256 {digest[:12]}…, not {entry['sha256'][:12]}…"
            raise MPFLError(f"{path} is damaged ({wrong}): {remedy}")
        try:
            arrays[array] = np.load(path, mmap_mode="c" if large else None, allow_pickle=False)
        except ValueError as error:
            raise MPFLError(f"{path} is damaged ({error}): {remedy}") from error
    return Dataset(name, **arrays, classes=classes, mean=mean, std=std)


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# --- folders of pictures -------------------------------------------------------------------


def pack_kaggle(target: Path, source: Path, pixels: int, tick: Tick = lambda: None) -> None:
    """Turn an unpacked ImageNet100 folder into arrays at ``target``."""
    train, test, names = kaggle_listing(source)
    with staging(target) as new:
        pack(new, train, test, pixels, tick)
        seal(new, "imagenet100", names, "Kaggle ImageNet100")


def kaggle_listing(source: Path) -> tuple[Listing, Listing, tuple[str, ...]]:
    """The pictures of the layout of Kaggle's ImageNet100, and the names of its classes.

    ``train/<wnid>/*.JPEG``, or the parts ``train.X1``, ``train.X2``, …; ``val`` or ``val.X``
    likewise; ``Labels.json`` maps a wnid to its name. Classes are in the order of their
    wnids, pictures in the order of their file names: the same data in other parts is equal.
    """
    try:
        names = json.loads((source / "Labels.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise MPFLError(f"{source}: Labels.json cannot be read ({error})") from error
    wnids = sorted(names)
    splits = []
    for split in ("train", "val"):
        parts = [source / split, *source.glob(f"{split}.X*")]
        listing: Listing = []
        for label, wnid in enumerate(wnids):
            found = [path for part in parts for path in (part / wnid).glob("*.JPEG")]
            if not found:
                raise MPFLError(f"{source}: no {split} picture of class {wnid}: unpack it again")
            listing += [(path, label) for path in sorted(found, key=lambda path: path.name)]
        splits.append(listing)
    return splits[0], splits[1], tuple(names[wnid] for wnid in wnids)


def pack(new: Path, train: Listing, test: Listing, pixels: int, tick: Tick) -> None:
    """Decode every picture, once, into the arrays of folder ``new``; memory stays small."""
    for split, listing in (("train", train), ("test", test)):
        shape = (len(listing), 3, pixels, pixels)
        path = new / f"{split}_images.npy"
        images = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
        with ThreadPoolExecutor() as pool:
            decode = partial(read_picture, pixels=pixels)
            for row, picture in enumerate(pool.map(decode, [path for path, _ in listing])):
                images[row] = picture
                tick()
        images.flush()
        labels = np.array([label for _, label in listing], dtype=np.int64)
        np.save(new / f"{split}_labels.npy", labels, allow_pickle=False)


def read_picture(path: Path, pixels: int) -> np.ndarray:
    """One picture as uint8 ``[3, pixels, pixels]``: central square, resized, grey made RGB."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as picture:
            picture.draft("RGB", (2 * pixels, 2 * pixels))  # a JPEG shrinks fast as it decodes
            square = ImageOps.fit(picture.convert("RGB"), (pixels, pixels))
    except (OSError, SyntaxError) as error:
        raise MPFLError(f"{path} cannot be decoded ({error}): unpack it again") from error
    return np.asarray(square).transpose(2, 0, 1)
