"""Figures of masks and lotteries: what is drawn is what was given, and a label stands once."""

import numpy as np

from mpfl.show.plots.granularity import accuracy_by_ballot, weights_kept
from mpfl.show.plots.masks import among_lotteries, shared_by_round


def test_a_line_a_seed_and_a_label_once():
    rows = [
        ("seed 3", {"mpfl": 72.0, "lth": 73.0}, [70.0, 71.0]),
        ("seed 4", {"mpfl": 71.5, "w0-norms": 70.5}, [69.0, 72.0]),
    ]
    figure = among_lotteries(rows)
    [axes], [legend] = figure.axes, figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "a lottery",
        "vote",
        "w0 norms",
        "lth",
    ]
    drawn = {
        (float(x), float(line.get_ydata()[0])) for line in axes.lines for x in line.get_xdata()
    }
    # The first row stands at the top.
    assert drawn == {(72, 1), (73, 1), (70, 1), (71, 1), (71.5, 0), (70.5, 0), (69, 0), (72, 0)}
    assert [each.get_text() for each in axes.get_yticklabels()] == ["seed 4", "seed 3"]


def test_shares_are_drawn_in_per_cent_beside_chance():
    shares = np.array([[1.0, 0.5], [0.8, 0.7]])
    figure = shared_by_round({"a start": {"w0-norms": shares}}, np.array([0.85, 0.72]))
    [axes] = figure.axes
    norms, chance = axes.lines
    assert norms.get_ydata().tolist() == [90, 60] and chance.get_ydata().tolist() == [85, 72]
    assert axes.get_title() == "a start"


def test_a_grid_of_kernels_has_a_cell_a_weight():
    kept = np.zeros((2, 3, 3, 3), bool)
    kept[1, 2, 0, 1] = True
    [axes] = weights_kept({"a mask": kept}).axes
    drawn = axes.images[0].get_array()
    assert drawn.count() == kept.size and drawn.sum() == 1  # the gaps between kernels are blank
    assert drawn[4, 9] == 1 and axes.get_title() == "a mask"


def test_accuracies_stand_above_the_bytes_of_their_ballot():
    points = {
        "mpfl": [(72, 70.0, "filter"), (8021, 75.0, "kernel")],
        "lottery": [(72, 69.0, "filter")],
    }
    [axes] = accuracy_by_ballot(points).axes
    drawn = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
    assert drawn == {"vote": [[72, 70], [8021, 75]], "lottery": [[72, 69]]}
    assert axes.get_xscale() == "log"
    assert [text.get_text() for text in axes.texts] == ["filter", "kernel"]
