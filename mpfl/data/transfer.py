"""A file from the network, with a progress bar."""

from __future__ import annotations

import lzma
import tarfile
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

UNREADABLE = (OSError, EOFError, tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)


def download(url: str, path: Path, progress: bool) -> Path:
    """Save what ``url`` answers as ``path``. Raises OSError, also when it ends too soon."""
    with urllib.request.urlopen(url, timeout=60) as answer, path.open("wb") as file:
        total = int(answer.headers.get("Content-Length") or 0) or None
        with bar(progress, path.name, total) as tick:
            while block := answer.read(2**20):
                file.write(block)
                tick(len(block))
    if total is not None and path.stat().st_size != total:
        raise OSError(f"it ended after {path.stat().st_size} of {total} bytes")
    return path


@contextmanager
def bar(show: bool, what: str, total: int | None) -> Iterator[Callable[..., None]]:
    """A progress bar; calling what it yields moves it by one, or by the number given."""
    with Progress(console=Console(stderr=True), disable=not show) as progress:
        task = progress.add_task(what, total=total)
        yield lambda steps=1: progress.advance(task, steps)
