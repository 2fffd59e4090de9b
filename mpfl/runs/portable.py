"""What a run with workers asks of its script: processes that start anew can read all of it.

A worker imports the script that started it, to find what the script defines. So a script must
be a file, and must start a run only if it is the main one.
"""

from __future__ import annotations

import ast
import sys
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from types import FrameType, ModuleType

from mpfl.runs.experiment import Experiment
from mpfl.types import MPFLError

_GUARDS = ("__name__", "parent_process")


def require_portable(experiment: Experiment) -> None:
    """Refuse what would fail in a worker process, or begin there a second time.

    That is code that no file holds, and a script whose run is not below
    ``if __name__ == "__main__":``. Nothing has been started then.
    """
    main = sys.modules["__main__"]
    script = getattr(main, "__file__", None)
    named = getattr(main, "__spec__", None) is not None  # python -m: imported by its name
    if script is not None and not named and not Path(script).is_file():
        raise MPFLError(
            f"worker processes cannot read a script from {script}; put it in a file, or run "
            "it with workers=1"
        )
    if (line := _line_run_again(main)) is not None:
        raise MPFLError(
            f"{script}, line {line}: every worker process would run this again; put it below "
            'if __name__ == "__main__":, or run it with workers=1'
        )
    remedy = "run it with workers=1, or put it in a file and import it from there"
    try:
        sent = bytes(ForkingPickler.dumps(experiment))
    except Exception as error:  # whatever makes it stay here
        raise MPFLError(
            f"worker processes cannot be sent this experiment ({error}); {remedy}"
        ) from None
    if b"__main__" in sent and script is None:
        raise MPFLError(f"worker processes cannot see what was written in a notebook; {remedy}")


def _line_run_again(main: ModuleType) -> int | None:
    """The line of the script that is being run, if importing the script would run it too."""
    frame: FrameType | None = sys._getframe()
    while frame is not None and not _is_script(frame, main):
        frame = frame.f_back
    if frame is None:  # a console, a notebook, or a thread
        return None
    try:
        tree = ast.parse(Path(frame.f_code.co_filename).read_bytes())
    except (OSError, SyntaxError, ValueError):  # a compiled file
        return None
    line = frame.f_lineno
    guarded = any(_is_guard(node, line) for node in ast.walk(tree))
    return None if guarded else line


def _is_script(frame: FrameType, main: ModuleType) -> bool:
    code = frame.f_code
    return (
        frame.f_globals is vars(main)
        and code.co_name == "<module>"
        and code.co_filename == getattr(main, "__file__", None)
    )


def _is_guard(node: ast.AST, line: int) -> bool:
    """Whether a condition on who imports the script spans its ``line``."""
    if not isinstance(node, ast.If | ast.IfExp) or node.end_lineno is None:
        return False
    asked = {each.id for each in ast.walk(node.test) if isinstance(each, ast.Name)}
    asked |= {each.attr for each in ast.walk(node.test) if isinstance(each, ast.Attribute)}
    return node.lineno <= line <= node.end_lineno and not asked.isdisjoint(_GUARDS)
