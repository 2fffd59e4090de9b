"""The layouts in which ImageNet100 comes, and the arrays made of them."""

from __future__ import annotations

import json
from pathlib import Path

from mpfl.data.pictures import Listing, Tick, pack
from mpfl.data.store import seal, staging
from mpfl.types import MPFLError


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


TINY_CLASSES = Path(__file__).with_name("imagenet100-64-classes.json")
"""The 100 classes of the stand-in: wnid to name."""


def tiny_listing(source: Path) -> tuple[Listing, Listing, tuple[str, ...]]:
    """Our 100 classes in the unpacked Tiny ImageNet, in the order of ``kaggle_listing``."""
    names = json.loads(TINY_CLASSES.read_text(encoding="utf-8"))
    wnids = sorted(names)
    label = {wnid: number for number, wnid in enumerate(wnids)}
    train = [
        (path, label[wnid])
        for wnid in wnids
        for path in sorted((source / "train" / wnid / "images").glob("*.JPEG"))
    ]
    notes = (source / "val" / "val_annotations.txt").read_text(encoding="utf-8").splitlines()
    files = sorted((wnid, file) for file, wnid, *_ in (note.split() for note in notes))
    val = [(source / "val" / "images" / file, label[w]) for w, file in files if w in label]
    return train, val, tuple(names[wnid] for wnid in wnids)
