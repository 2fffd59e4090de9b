"""Folders of picture files, decoded once into arrays of equal size."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np

from mpfl.types import MPFLError

Tick: TypeAlias = Callable[[], object]
"""Called after each step, to move a progress bar."""

Listing: TypeAlias = list[tuple[Path, int]]
"""Each picture's file and class."""


def pack(new: Path, train: Listing, test: Listing, pixels: int, tick: Tick) -> None:
    """Decode every picture into the four arrays of folder ``new``.

    The arrays are written through a memory map, so they may be larger than the memory.
    """
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
    """One picture as uint8 ``[3, pixels, pixels]``: central square, resized, grey as RGB."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as picture:
            picture.draft("RGB", (2 * pixels, 2 * pixels))  # a JPEG shrinks fast as it decodes
            square = ImageOps.fit(picture.convert("RGB"), (pixels, pixels))
    except Exception as error:  # a damaged file raises whatever occurs to its decoder
        raise MPFLError(f"{path} cannot be decoded ({error}): unpack it again") from error
    return np.asarray(square).transpose(2, 0, 1)
