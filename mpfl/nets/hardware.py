"""What the machine has, and how torch uses it."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch


def default_device() -> torch.device:
    """The GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def has_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is fast on ``device``, not merely possible.

    Never if the environment sets ``MPFL_BFLOAT16=0``: so a machine that is fast at it repeats
    the runs of one that is not.
    """
    if os.environ.get("MPFL_BFLOAT16") == "0":
        return False
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    try:
        return "avx512_bf16" in Path("/proc/cpuinfo").read_text()  # every amx_bf16 has it too
    except OSError:
        return False


def keep_freed_memory() -> None:
    """Make this process keep the memory that it frees, for its next step to use.

    A step of a large network frees hundreds of megabytes and asks for them again; by default
    they go back to the system each time, which hands them out page by page, set to zero. No
    result changes. For processes that do nothing but train; does nothing without glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)  # no block straight from the system, to be unmapped when freed
        mallopt(_M_TRIM_THRESHOLD, -1)  # nothing goes back from the end of the heap


_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h; see mallopt(3)


@contextmanager
def on_threads(count: int) -> Iterator[None]:
    """Let torch use ``count`` processor threads within, and as many as before afterwards.

    On a GPU convolutions repeat their bits, and float32 is float32 (torch's own choice there is
    TF32, which keeps 10 bits of a number's 23).
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            yield
    finally:
        torch.set_num_threads(before)
