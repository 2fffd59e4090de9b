"""The two layouts in which ImageNet100's pictures come: Kaggle's, and that of Tiny ImageNet.

A layout is read into a listing per split (each picture's file and class) and the names of the
classes. ``imagenet100`` is packed from Kaggle's; ``imagenet100-64``, a stand-in at 64 pixels that
needs no account, from 100 classes of Tiny ImageNet.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mpfl.data.pictures import Listing, Tick, pack
from mpfl.data.store import seal, staging
from mpfl.types import MPFLError

STAND_IN_CLASSES = Path(__file__).with_name("imagenet100-64-classes.json")


def pack_kaggle(target: Path, source: Path, pixels: int, tick: Tick = lambda: None) -> None:
    """Turn an unpacked ImageNet100 folder into arrays at ``target``."""
    train, test, names = kaggle_listing(source)
    with staging(target) as new:
        pack(new, train, test, pixels, tick)
        seal(new, "imagenet100", names, "Kaggle ImageNet100")


def kaggle_listing(
    source: Path, called: str | None = None
) -> tuple[Listing, Listing, tuple[str, ...]]:
    """Training pictures, test pictures and class names of Kaggle's layout.

    ``train/<wnid>/*.JPEG``, or the parts ``train.X1``, ``train.X2``, …; ``val`` or ``val.X``
    likewise; ``Labels.json`` maps a wnid to its name. Classes are in the order of their
    wnids, pictures in the order of their file names, so that it makes no difference which
    picture lies in which part. An error names ``source`` as it is ``called``.
    """
    where = called or str(source)
    try:
        names = json.loads((source / "Labels.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise MPFLError(f"{where}: Labels.json cannot be read ({error}): get it again") from error
    if not (isinstance(names, dict) and names and all(map(_is_class, names.items()))):
        raise MPFLError(
            f"{where}: Labels.json does not map the folder of each class to its name: get it again"
        )
    wnids = sorted(names)
    splits = []
    for split in ("train", "val"):
        parts = [source / split, *source.glob(f"{split}.X*")]
        listing: Listing = []
        for label, wnid in enumerate(wnids):
            files = [path for part in parts for path in (part / wnid).glob("*.JPEG")]
            if not files:
                raise MPFLError(f"{where}: no {split} picture of class {wnid}: unpack it again")
            listing += [(path, label) for path in sorted(files, key=lambda path: path.name)]
        splits.append(listing)
    return splits[0], splits[1], tuple(names[wnid] for wnid in wnids)


def _is_class(entry: tuple[str, Any]) -> bool:
    """Whether a folder's name, and no path, stands before a class's."""
    wnid, name = entry
    return wnid not in ("", "..") and Path(wnid).name == wnid and isinstance(name, str)


def stand_in_classes() -> dict[str, str]:
    """The 100 classes of the stand-in: wnid to name."""
    classes: dict[str, str] = json.loads(STAND_IN_CLASSES.read_text(encoding="utf-8"))
    return classes


def tiny_listing(source: Path) -> tuple[Listing, Listing, tuple[str, ...]]:
    """Our 100 classes in the unpacked Tiny ImageNet, ordered as in :func:`kaggle_listing`."""
    names = stand_in_classes()
    wnids = sorted(names)
    label = {wnid: number for number, wnid in enumerate(wnids)}
    train = [
        (path, label[wnid])
        for wnid in wnids
        for path in sorted((source / "train" / wnid / "images").glob("*.JPEG"))
    ]
    notes = (source / "val" / "val_annotations.txt").read_text(encoding="utf-8").splitlines()
    words = [note.split() for note in notes]
    if any(len(each) < 2 for each in words):
        raise MPFLError(
            f"{source}: val/val_annotations.txt has a line without file and class: get it again"
        )
    files = sorted((wnid, file) for file, wnid, *_ in words)
    val = [(source / "val" / "images" / file, label[w]) for w, file in files if w in label]
    return train, val, tuple(names[wnid] for wnid in wnids)
