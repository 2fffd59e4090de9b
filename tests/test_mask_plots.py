"""Figures of masks and lotteries: what is drawn is what was given, and a label stands once."""

import numpy as np

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
