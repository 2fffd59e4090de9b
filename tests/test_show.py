"""What is shown loads what draws it only when it draws."""

import subprocess
import sys

import pytest

from mpfl.show.notebook import table

DRAWS = {"matplotlib", "seaborn", "pandas", "scipy", "IPython", "anywidget"}


@pytest.mark.parametrize("module", ["mpfl.show.listing", "mpfl.show.live", "mpfl.show.figures"])
def test_names_alone_load_nothing_that_draws(module):
    program = f"import sys, {module}; print(*sorted({DRAWS} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


@pytest.mark.parametrize(
    ("column", "side"),
    [
        (["10.5 %", "−0.40 ± 0.45", "3 seeds"], "right"),
        (["", "-1.5", "–"], "right"),
        (["0.5", "±0.1", "nan", "—"], "right"),
        ([12_000, 3], "right"),
        (["0, 1, 2", "nobody"], "left"),
        (["", ""], "left"),
        ([True, False], "left"),
    ],
)
def test_a_column_of_a_table_is_set_to_one_side(column, side):
    drawn = table([{"trained by": "3 inverted", "found": each} for each in column]).data
    assert drawn.count("text-align:right") == (len(column) + 1 if side == "right" else 0)
    assert drawn.count("text-align:left") == (len(column) + 1) * (1 if side == "right" else 2)


def test_a_table_sets_its_numbers_as_text_does():
    rows = [{"bits": 32, "apart": -1.5, "seeds": 12_000, "holds": True}, {"more": [-0.1, -0.2]}]
    drawn = table(rows).data
    cells = [each.partition("</td>")[0].partition(">")[2] for each in drawn.split("<td")[1:]]
    assert cells[:5] == ["32", "−1.5", "12,000", "True", ""]
    assert cells[5:] == ["", "", "", "", "[−0.1, −0.2]"]  # a row that lacks a key loses nothing
    assert drawn.count('<th scope="col" style="text-align:right">') == 2
