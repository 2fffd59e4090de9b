"""How each notebook was run, for the table of book/executions.md.

The pages render what papermill ran, so MyST-NB, which draws the table, has measured nothing. The
times are in the notebooks' own metadata.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import nbformat
from myst_nb.sphinx_ import NbMetadataCollector
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment


def read_times(app: Sphinx, env: BuildEnvironment) -> None:
    """Give MyST-NB the time, duration and status that papermill noted in each notebook."""
    for name in env.found_docs:
        path = Path(env.doc2path(name))
        if path.suffix != ".ipynb":
            continue
        noted = nbformat.read(path, as_version=4).metadata["papermill"]
        data = {
            "mtime": datetime.fromisoformat(noted["end_time"]).timestamp(),
            "method": "papermill",
            "runtime": noted["duration"],
            "succeeded": noted["exception"] is None,
            "error": None,
            "traceback": None,
        }
        NbMetadataCollector.set_exec_data(env, name, data)


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("env-updated", read_times)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
