"""What is shown loads what draws it only when it draws."""

import subprocess
import sys

import pytest

DRAWS = {"matplotlib", "seaborn", "pandas", "scipy", "IPython", "anywidget"}


@pytest.mark.parametrize("module", ["mpfl.show.listing", "mpfl.show.live", "mpfl.show.figures"])
def test_names_alone_load_nothing_that_draws(module):
    program = f"import sys, {module}; print(*sorted({DRAWS} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
