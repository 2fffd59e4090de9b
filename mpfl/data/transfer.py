"""A file from the network, and a progress bar to watch while it comes."""

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

UNREADABLE = (
    OSError,
    EOFError,
    UnicodeDecodeError,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)
"""What reading an archive, or a list of what is in one, raises if it is damaged."""


def download(url: str, path: Path, progress: bool) -> Path:
    """Save what is at ``url`` as ``path``. Raises OSError, even if the file only ends too soon."""
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
    """A progress bar on the error stream; calling what it yields moves it, by one step or more.

    In a file, or in a pipe, there is none: only errors go there.
    """
    console = Console(stderr=True)
    with Progress(console=console, disable=not (show and console.is_terminal)) as progress:
        task = progress.add_task(what, total=total)
        yield lambda steps=1: progress.advance(task, steps)
