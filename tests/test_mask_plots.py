"""Figures of masks and lotteries: what is drawn is what was given, and a label stands once."""

import numpy as np
import pytest
import torch
from torch import nn

from mpfl.evidence.gains import Gain, gains_of
from mpfl.evidence.samples import Sample
from mpfl.nets.tracing import layout_of
from mpfl.show.plots.forest import ForestLine, forest
from mpfl.show.plots.gains import gains_over_lotteries
from mpfl.show.plots.granularity import accuracy_by_ballot, weights_kept
from mpfl.show.plots.masks import among_lotteries, shared_by_round
from mpfl.show.plots.units import slices_of_a_unit, taken_by


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
        "LTH",
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
    gone, stays = axes.images[0].cmap(np.array([0, 1]))
    assert gone[3] < 0.5 and stays[3] == 1  # faint on white paper and on a dark page


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


def test_a_line_a_network_with_its_interval_or_the_word_that_it_lacks():
    none = Sample(())
    gains = {
        "ViT, heads": Gain("heads", Sample((1.0, 2.0, 3.0)), Sample((0.0, 1.0, 2.0)), 3, 0),
        "GRU": Gain("", Sample((0.5,)), none, 10, 36),
        "LSTM": Gain("", none, none, 10, 40),
    }
    [axes] = gains_over_lotteries(gains).axes
    assert [text.get_text() for text in axes.get_yticklabels()] == [
        "LSTM\n0 of 10 seeds",
        "GRU\n1 of 10 seeds",
        "ViT, heads",
    ]
    assert [text.get_text() for text in axes.texts] == ["not run yet"]
    [vote, _] = [
        segments
        for bars in axes.collections
        if len(segments := bars.get_segments()) == 1  # a point of one seed has no interval
    ]
    low, high = sorted(vote[0][:, 0])
    assert (low + high) / 2 == pytest.approx(2) and low < 0 < high  # t(2) / sqrt(3) is 2.48


def test_a_gain_is_of_a_vote_over_its_own_lotteries(tmp_path):
    names = [gain.name for gain in gains_of("granularity", results=tmp_path)]
    assert names == ["filter", "kernel", "kernel, equal weights", "weight", "weight, equal weights"]
    [gain] = gains_of("recurrent", results=tmp_path)
    assert (gain.name, gain.vote.n, gain.planned, gain.missing) == ("", 0, 10, 40)


def test_what_a_unit_takes_is_its_row_and_the_column_that_reads_it():
    module = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    taken = taken_by(layout_of(module, inputs=torch.zeros(2, 2)), "0", 1)
    assert taken["0.weight"].tolist() == [[0, 0], [1, 1], [0, 0]]
    assert taken["2.weight"].tolist() == [[0, 2, 0], [0, 2, 0]]
    [axes] = slices_of_a_unit({"a hidden unit": taken}).axes
    assert len(axes.patches) == 12 and axes.get_title(loc="left") == "a hidden unit"


def test_a_forest_has_a_line_a_difference_and_a_band_for_its_margin():
    groups = {
        "a start": [
            ForestLine("vote − lottery", Sample((1.0, 2.0, 3.0)), 1.0, "shown"),
            ForestLine("vote − LTH", Sample(()), 2.0, "not shown"),
        ],
        "another": [ForestLine("smallest − lottery", Sample((-1.0,)), 1.0, "exploratory")],
    }
    figure = forest(groups)
    [axes], [legend] = figure.axes, figure.legends
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert names == ["smallest − lottery", "another", "vote − LTH", "vote − lottery", "a start"]
    assert [text.get_text() for text in axes.texts] == ["not run yet"]
    bands = [(band.get_x(), band.get_width()) for band in axes.patches]
    assert bands == [(-1, 2), (-2, 4), (-1, 2)]
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels == ["shown", "exploratory", "within the margin"]
    segments = [
        bars.get_segments()[0] for bars in axes.collections if hasattr(bars, "get_segments")
    ]
    [shown] = segments  # a single value has no interval
    assert sorted(shown[:, 0]) == pytest.approx([2 - 2.484, 2 + 2.484], abs=0.01)
