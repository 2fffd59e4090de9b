"""A data set on disk: round trip, damage, what is missing, and folders of pictures."""

import json
import os
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mpfl.data import imagenet
from mpfl.data import store as store_module
from mpfl.data.catalogue import load
from mpfl.data.dataset import ARRAYS, Dataset, channel_stats
from mpfl.data.pictures import read_picture
from mpfl.data.store import open_sealed, seal, sha256, staging
from mpfl.seeds import rng_for
from mpfl.types import MPFLError


def arrays(n: int = 12) -> dict[str, np.ndarray]:
    rng = rng_for(1, "test", "data")
    return {
        "train_images": rng.integers(0, 256, (n, 3, 4, 4), dtype=np.uint8),
        "train_labels": np.arange(n, dtype=np.int64) % 3,
        "test_images": rng.integers(0, 256, (6, 3, 4, 4), dtype=np.uint8),
        "test_labels": np.arange(6, dtype=np.int64) % 3,
    }


def store(target: Path, values: dict[str, np.ndarray], name: str = "cifar10") -> None:
    with staging(target) as new:
        for array, value in values.items():
            np.save(new / f"{array}.npy", value)
        seal(new, name, ("cat", "dog", "frog"), "a test")


def picture(path: Path, seed: int, size: tuple[int, int] = (64, 64), mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    values = rng_for(seed, "test", "picture").integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(values).save(path, quality=95)


@pytest.fixture
def kaggle(tmp_path: Path) -> Path:
    """Three classes, two in the first part and one in the second; odd sizes, one grey."""
    raw = tmp_path / "root" / "imagenet100"
    for number, (part, wnid) in enumerate([("X1", "n03"), ("X1", "n01"), ("X2", "n02")]):
        for i in range(3):
            size = (90 + 10 * i, 150)
            picture(raw / f"train.{part}" / wnid / f"{wnid}_{i}.JPEG", 10 * number + i, size)
        picture(raw / "val.X" / wnid / f"val_{number}.JPEG", 100 + number, mode="L")
    raw.joinpath("Labels.json").write_text(json.dumps({"n03": "frog", "n01": "cat", "n02": "dog"}))
    return raw


# --- the value ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("array", "value", "says"),
    [
        ("train_images", np.zeros((12, 3, 4, 4)), "train images are float64"),
        ("train_images", np.zeros((12, 4, 4), np.uint8), "give uint8"),
        ("train_images", np.zeros((12, 3, 5, 5), np.uint8), "differ in shape"),
        ("test_labels", np.zeros(6, np.int32), "test labels are int32"),
        ("test_labels", np.zeros(5, np.int64), "give int64"),
        ("train_labels", np.full(12, 3), "labels must be 0..2"),
        ("train_labels", np.full(12, -1), "labels must be 0..2"),
    ],
)
def test_a_dataset_refuses_what_does_not_fit(array, value, says):
    values = arrays() | {array: value}
    with pytest.raises(MPFLError, match=says):
        Dataset("x", **values, classes=("a", "b", "c"), mean=(0.0,) * 3, std=(1.0,) * 3)


def test_channel_stats_equal_the_naive_ones():
    images = arrays(2500)["train_images"]
    mean, std = channel_stats(images)
    np.testing.assert_allclose(mean, (images / 255).mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(std, (images / 255).std(axis=(0, 2, 3)), rtol=1e-12)


def test_digits():
    first, again = load("digits"), load("digits", Path("nowhere"))
    assert first.train_images.shape == (1438, 1, 8, 8)
    assert first.test_images.shape == (359, 1, 8, 8)
    assert first.train_images.max() == 255 and len(np.unique(first.train_images)) == 17
    for label in range(10):
        train, test = (np.sum(x == label) for x in (first.train_labels, first.test_labels))
        assert 0.18 < test / (train + test) < 0.22
    for array in ARRAYS:
        np.testing.assert_array_equal(getattr(first, array), getattr(again, array))
    # Not one picture is lost or used twice.
    from sklearn.datasets import load_digits

    both = np.concatenate([first.train_images, first.test_images]).reshape(-1, 64)
    every = np.rint(load_digits().data * 255 / 16).astype(np.uint8)
    assert sorted(map(bytes, both)) == sorted(map(bytes, every))


# --- missing, unknown, damaged -----------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("cifar-10", "cifar10"),
        ("CIFAR10", "cifar10"),
        ("imagenet", "imagenet100"),
        ("digit", "digits"),
    ],
)
def test_an_unknown_name_gets_the_nearest(name, near):
    with pytest.raises(MPFLError, match=rf"did you mean '{near}'\? \(there are digits, cifar10"):
        load(name)


@pytest.mark.parametrize("name", ["cifar10", "imagenet100", "imagenet100-64"])
def test_a_missing_set_is_an_error_that_names_the_command(name, tmp_path):
    with pytest.raises(MPFLError) as error:
        load(name, tmp_path)
    assert f"python -m mpfl data {name}" in str(error.value)
    assert f"--root {tmp_path}" in str(error.value) and "data/README.md" in str(error.value)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_round_trip(tmp_path):
    values = arrays()
    store(tmp_path / "cifar10", values)
    loaded = load("cifar10", tmp_path)
    for array in ARRAYS:
        np.testing.assert_array_equal(getattr(loaded, array), values[array])
        assert getattr(loaded, array).dtype == values[array].dtype
    assert loaded.classes == ("cat", "dog", "frog") and loaded.name == "cifar10"
    assert (loaded.mean, loaded.std) == channel_stats(values["train_images"])


def test_large_arrays_are_mapped_and_the_file_is_safe(tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "HASHED_BYTES", 0)
    store(tmp_path / "cifar10", arrays())
    loaded = load("cifar10", tmp_path)
    assert isinstance(loaded.train_images, np.memmap)
    loaded.train_images[:] = 0
    assert load("cifar10", tmp_path).train_images.any()


def flip(path: Path) -> None:
    blob = bytearray(path.read_bytes())
    blob[-1] ^= 1
    path.write_bytes(blob)


def manifest(folder: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    path = folder / "manifest.json"
    value = json.loads(path.read_text())
    edit(value)
    path.write_text(json.dumps(value))


HEADER = b"\x93NUMPY\x01\x00\x36\x00{'descr': '<i8', 'fortran_order': False, 'shape': (6,)}\n"


def array_of(folder: Path, content: bytes) -> None:
    """Labels of these bytes, with their own seal."""
    path = folder / "test_labels.npy"
    path.write_bytes(content)
    entry = {"bytes": len(content), "sha256": sha256(path)}
    manifest(folder, lambda m: m["files"].update({path.name: entry}))


DAMAGE = {
    "a flipped bit": lambda d: flip(d / "train_images.npy"),
    "cut short": lambda d: (d / "test_labels.npy").write_bytes(b"\x93NUMPY"),
    "a lost file": lambda d: (d / "test_images.npy").unlink(),
    "a lost manifest": lambda d: (d / "manifest.json").unlink(),
    "an empty manifest": lambda d: (d / "manifest.json").write_text(""),
    "another manifest": lambda d: (d / "manifest.json").write_text('{"files": []}'),
    "a manifest too deep": lambda d: (d / "manifest.json").write_text("[" * 100_000),
    "no size": lambda d: manifest(d, lambda m: m["files"]["test_labels.npy"].pop("bytes")),
    "no seal": lambda d: manifest(d, lambda m: m["files"]["test_labels.npy"].pop("sha256")),
    "a seal in a number": lambda d: manifest(
        d, lambda m: m["files"]["test_labels.npy"].update(sha256=5)
    ),
    "a mean in words": lambda d: manifest(d, lambda m: m.update(mean=["a", "b", "c"])),
    "a mean of nothing": lambda d: manifest(d, lambda m: m.update(mean=[None] * 3)),
    "a mean of lists": lambda d: manifest(d, lambda m: m.update(mean=[[1], [1, 2], [3]])),
    "an empty array": lambda d: array_of(d, b""),
    "a header cut short": lambda d: array_of(d, HEADER.replace(b")", b"(")),
    "a folder": lambda d: ((d / "test_labels.npy").unlink(), (d / "test_labels.npy").mkdir()),
    "a pipe": lambda d: ((d / "test_labels.npy").unlink(), os.mkfifo(d / "test_labels.npy")),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_an_error_that_names_the_flag(damage, tmp_path):
    store(tmp_path / "cifar10", arrays())
    DAMAGE[damage](tmp_path / "cifar10")
    with pytest.raises(MPFLError, match=r"damaged.*python -m mpfl data cifar10 --force"):
        load("cifar10", tmp_path)


def test_another_set_in_its_place_is_refused(tmp_path):
    store(tmp_path / "cifar10", arrays(), name="imagenet100-64")
    with pytest.raises(MPFLError, match=r"holds the data set 'imagenet100-64', not 'cifar10'.*-f"):
        load("cifar10", tmp_path)


def test_a_flipped_bit_in_a_mapped_file_is_found_by_the_full_check(tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "HASHED_BYTES", 0)
    store(tmp_path / "cifar10", arrays())
    flip(tmp_path / "cifar10" / "train_images.npy")
    load("cifar10", tmp_path)
    with pytest.raises(MPFLError, match="SHA-256"):
        open_sealed(tmp_path / "cifar10", "fetch again", full=True)


def test_a_pickled_array_is_refused(tmp_path):
    store(tmp_path / "cifar10", arrays())
    path = tmp_path / "cifar10" / "train_labels.npy"
    np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    manifest = json.loads((tmp_path / "cifar10" / "manifest.json").read_text())
    entry = {"bytes": path.stat().st_size, "sha256": sha256(path)}
    manifest["files"]["train_labels.npy"] = entry
    (tmp_path / "cifar10" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(MPFLError, match="damaged"):
        load("cifar10", tmp_path)


# --- a folder takes its place whole or not at all ----------------------------------------


@pytest.mark.parametrize("failure", [MPFLError("no"), OSError("disk full"), KeyboardInterrupt()])
@pytest.mark.parametrize("before", [False, True])
def test_a_failed_write_changes_nothing(failure, before, tmp_path):
    target = tmp_path / "cifar10"
    if before:
        store(target, arrays())
    with pytest.raises(type(failure)), staging(target) as new:
        (new / "train_images.npy").write_bytes(b"half")
        raise failure
    assert [path.name for path in tmp_path.iterdir()] == (["cifar10"] if before else [])
    if before:
        load("cifar10", tmp_path)


def test_the_old_copy_comes_back_when_the_last_step_fails(tmp_path, monkeypatch):
    store(tmp_path / "cifar10", arrays())
    real = store_module.os.replace

    def replace(source, target):
        if Path(source).name == "new":
            raise OSError("no")
        real(source, target)

    monkeypatch.setattr(store_module.os, "replace", replace)
    with pytest.raises(OSError, match="no"):
        store(tmp_path / "cifar10", arrays(24))
    assert len(load("cifar10", tmp_path).train_images) == 12


def test_a_killed_write_leaves_nothing_at_the_target(tmp_path):
    code = (
        "import os, signal; from pathlib import Path; from mpfl.data.store import staging\n"
        f"with staging(Path({str(tmp_path / 'cifar10')!r})) as new:\n"
        "    (new / 'train_images.npy').write_bytes(b'half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9
    assert not (tmp_path / "cifar10").exists()
    store(tmp_path / "cifar10", arrays())
    load("cifar10", tmp_path)


# --- pictures ----------------------------------------------------------------------------


def test_imagenet100_is_packed_once_in_the_order_of_wnids(kaggle, monkeypatch):
    root = kaggle.parent
    loaded = load("imagenet100", root, pixels=16)
    assert loaded.train_images.shape == (9, 3, 16, 16)
    assert loaded.classes == ("cat", "dog", "frog")
    assert loaded.train_labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    # The first is n01_0: its central square, made small, is close to what was packed.
    with Image.open(kaggle / "train.X1" / "n01" / "n01_0.JPEG") as first:
        square = first.crop((0, 30, 90, 120)).resize((16, 16), Image.Resampling.BOX)
    near = np.abs(np.asarray(square).transpose(2, 0, 1).astype(int) - loaded.train_images[0])
    assert near.mean() < 12
    # Grey pictures have three equal channels.
    assert (loaded.test_images == loaded.test_images[:, :1]).all()
    monkeypatch.setattr(imagenet, "pack", None)
    again = load("imagenet100", root, pixels=16)
    np.testing.assert_array_equal(again.train_images, loaded.train_images)
    assert sorted(path.name for path in kaggle.iterdir() if "px" in path.name) == ["16px"]


def test_merged_parts_are_the_same_data(kaggle):
    parts = load("imagenet100", kaggle.parent, pixels=8)
    shutil.rmtree(kaggle / "8px")
    (kaggle / "train").mkdir()
    for wnid in kaggle.glob("train.X*/*"):
        wnid.rename(kaggle / "train" / wnid.name)
    (kaggle / "val.X").rename(kaggle / "val")
    merged = load("imagenet100", kaggle.parent, pixels=8)
    for array in ARRAYS:
        np.testing.assert_array_equal(getattr(merged, array), getattr(parts, array))


def test_a_picture_of_the_right_size_is_not_touched(tmp_path):
    picture(tmp_path / "a.JPEG", 0)
    with Image.open(tmp_path / "a.JPEG") as right:
        expected = np.asarray(right).transpose(2, 0, 1)
    np.testing.assert_array_equal(read_picture(tmp_path / "a.JPEG", 64), expected)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:300])


def chunk(kind: bytes, content: bytes) -> bytes:
    crc = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc)


BOMB = b"\x89PNG\r\n\x1a\n"
BOMB += chunk(b"IHDR", struct.pack(">II5B", 40_000, 40_000, 8, 2, 0, 0, 0))
BOMB += chunk(b"IDAT", zlib.compress(bytes(1000)))
"""A picture of a few bytes that says it has 1.6 billion pixels."""

TROUBLE = {
    "no train picture of class n02": lambda d: shutil.rmtree(d / "train.X2"),
    "no val picture": lambda d: shutil.rmtree(d / "val.X"),
    "Labels.json cannot be read": lambda d: (d / "Labels.json").write_text("{"),
    "n01_1.JPEG cannot be decoded": lambda d: cut(d / "train.X1" / "n01" / "n01_1.JPEG"),
    r"n01_0.JPEG cannot be decoded .*exceeds limit": lambda d: (
        d / "train.X1" / "n01" / "n01_0.JPEG"
    ).write_bytes(BOMB),
    **{
        f"Labels.json does not map .*{remark}": lambda d, text=text: (d / "Labels.json").write_text(
            text
        )
        for remark, text in {
            "(?#a list)": '["n01"]',
            "(?#nothing)": "null",
            "(?#no class)": "{}",
            "(?#no name)": '{"n01": null}',
            "(?#a path)": '{"../train.X1/n01": "cat"}',
        }.items()
    },
    r"Labels.json cannot be read \(max": lambda d: (d / "Labels.json").write_text("[" * 100_000),
}


@pytest.mark.parametrize("says", TROUBLE)
def test_trouble_in_a_folder_of_pictures(says, kaggle):
    TROUBLE[says](kaggle)
    with pytest.raises(MPFLError, match=says):
        load("imagenet100", kaggle.parent, pixels=8)
    assert not (kaggle / "8px").exists()


def test_no_pixels(tmp_path):
    with pytest.raises(MPFLError, match="pixels is 0"):
        load("imagenet100", tmp_path, pixels=0)


def test_importing_loads_no_torch():
    code = "import sys, mpfl.data, mpfl.data.fetch; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_importing_the_package_loads_numpy_only():
    heavy = {"torch", "torchvision", "sklearn", "PIL", "rich"}
    code = f"import sys, mpfl.data; sys.exit(' '.join({heavy} & set(sys.modules)) or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
