"""Run every notebook once: ``python book/run.py FOLDER`` leaves the ``.ipynb`` with its outputs.

Two run side by side, those that take longest first. `make book` renders what is left in
``_build/executed``, and tests/test_notebooks.py looks at it.
"""

from __future__ import annotations

import argparse
import os
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# A long one that starts last leaves a core idle. A wrong name here costs seconds, nothing else.
LONGEST = ("private", "failure", "loop", "little", "small", "vote", "lies", "foundations")

# Figures leave as SVG, with their text as text, for the page; and as PNG for whatever shows no SVG.
KERNEL = ["--InlineBackend.figure_formats={'svg', 'retina'}"]
SVG_BYTES = (
    700_000  # above this, mostly thousands of marks, a picture is lighter: a page writes a third
)


def sources() -> list[Path]:
    """The notebooks as text, in the order in which they are to start."""

    def place(path: Path) -> int:
        return next((i for i, word in enumerate(LONGEST) if word in path.stem), len(LONGEST))

    return sorted(sorted((ROOT / "notebooks").glob("*.md")), key=place)


def execute(source: Path, folder: Path, budget: str = "toy") -> str:
    """Run a notebook into ``folder``; returns its error with the traceback, or ``""``.

    What papermill adds to set the budget is no part of the page, so it is tagged
    ``remove-cell``. The file is complete once its metadata has ``papermill.end_time``.
    """
    import jupytext
    import nbformat
    import papermill

    os.environ["MATPLOTLIBRC"] = str(ROOT / "book" / "matplotlibrc")  # a kernel inherits it
    target = folder / f"{source.stem}.ipynb"
    jupytext.write(jupytext.read(source), target)
    try:
        ran = papermill.execute_notebook(
            target,
            target,
            parameters={"budget": budget},
            cwd=source.parent,
            kernel_name="python3",
            execution_timeout=300 if budget == "toy" else None,  # of a cell, in seconds
            progress_bar=False,
            extra_arguments=KERNEL,
        )
    except Exception as error:  # with its own constructor: it could not be sent to the parent
        return f"{source}: {type(error).__name__}: {error}"
    for cell in ran.cells:
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.metadata.tags.append("remove-cell")
        for output in cell.get("outputs", []):
            if len(output.get("data", {}).get("image/svg+xml", "")) > SVG_BYTES:
                del output["data"]["image/svg+xml"]
    nbformat.write(ran, target)
    return ""


def main() -> int:
    """Run them all, also when one fails; the status says whether all went well."""
    parser = argparse.ArgumentParser(description="run every notebook into a folder")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--budget", default="toy")
    parser.add_argument("--jobs", type=int, default=2, help="how many run side by side")
    options = parser.parse_args()

    options.folder.mkdir(parents=True, exist_ok=True)
    for old in options.folder.glob("*.ipynb"):
        old.unlink()
    failed = 0
    with ProcessPoolExecutor(options.jobs) as pool:
        runs = [pool.submit(execute, path, options.folder, options.budget) for path in sources()]
        for run in as_completed(runs):
            if error := run.result():
                failed += 1
                print(error, file=sys.stderr, flush=True)
    if failed:
        print(f"{failed} of {len(runs)} notebooks failed: see above.", file=sys.stderr)
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
