"""Getting a data set: afterwards the folder holds what ``load`` reads, or what it held before."""

from __future__ import annotations

import os
from pathlib import Path

from mpfl.data.catalogue import check_known, folder_of, load, open_set
from mpfl.data.dataset import Dataset
from mpfl.data.fetch_cifar10 import fetch_cifar10
from mpfl.data.fetch_imagenet import fetch_imagenet64, fetch_imagenet100
from mpfl.types import MPFLError


def fetch(
    name: str,
    root: Path = Path("data"),
    source: Path | None = None,
    *,
    force: bool = False,
    progress: bool = True,
    pixels: int = 64,
    url: str | None = None,
) -> Dataset:
    """Get a data set into ``root``, and load it; a good copy that is already there is kept.

    ``source`` is a file or folder that you got by hand (data/README.md), used instead of the
    network; ``force`` replaces a copy that is there; ``url`` is another address of
    cifar-10-python.tar.gz (default: the environment's ``MPFL_CIFAR10_URL``).

    Raises :class:`MPFLError` that names every way tried and why it failed. A copy that was
    there before is then untouched.
    """
    check_known(name)
    root, source = Path(root), None if source is None else Path(source)
    if source is not None and not (source.is_file() or source.is_dir()):
        seen = "is neither a file nor a folder" if source.exists() else "does not exist"
        raise MPFLError(f"--from {source} {seen}: name the file or folder you got")
    if name == "digits":
        if source is not None:
            raise MPFLError(f"--from {source}: the digits come with scikit-learn; leave --from out")
        return load(name)
    target = folder_of(name, root, pixels)
    if force or not target.exists():
        if name == "cifar10":
            fetch_cifar10(target, source, url or os.environ.get("MPFL_CIFAR10_URL"), progress)
        elif name == "imagenet100-64":
            fetch_imagenet64(target, source, progress)
        else:
            fetch_imagenet100(target, source, progress, pixels)
    return open_set(name, root, pixels, full=True)
