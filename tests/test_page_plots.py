"""Figures of messages, sums and shares: what is drawn is what was given."""

from itertools import combinations

import numpy as np
import pytest
from matplotlib.colors import to_rgba

from mpfl.analysis.theory import chance_pruned_of
from mpfl.show.looks import ORANGE
from mpfl.show.plots.cancelling import masks_that_cancel
from mpfl.show.plots.faults import measured_chances
from mpfl.show.plots.grids import grids_of_shares
from mpfl.show.plots.intervals import narrowing_interval
from mpfl.show.plots.messages import bytes_of_message
from mpfl.show.plots.pictures import pictures_with_labels
from mpfl.types import MPFLError
from mpfl.wire import enumerative, frame
from mpfl.wire.frame import Kind


def test_a_message_is_drawn_byte_by_byte():
    message = frame.write(Kind.PACKED, b"abcd", 3, bytes(range(20)))
    figure = bytes_of_message(message)
    [axes], [legend] = figure.axes, figure.legends
    assert bytes.fromhex("".join(text.get_text() for text in axes.texts)) == message
    says = [text.get_text() for text in legend.get_texts()]
    assert says[1:3] == ["version 2, kind PACKED", "round 3"]
    assert says[4] == "length of the body: 20" and len(says) == 7
    body = [patch for patch in axes.patches if patch.get_facecolor() == (1, 1, 1, 1)]
    assert len(body) == 20


def test_a_long_message_has_a_longer_length_field():
    message = frame.write(Kind.PACKED, b"abcd", 3, bytes(300))
    [legend] = bytes_of_message(message, across=40).legends
    assert "length of the body: 300" in [text.get_text() for text in legend.get_texts()]


def test_a_damaged_message_is_not_drawn():
    with pytest.raises(MPFLError, match="checksum"):
        bytes_of_message(frame.write(Kind.EMPTY, b"abcd", 3, b"")[:-1] + b"\0")


def test_what_pairs_share_cancels():
    rng = np.random.default_rng(0)
    ballots = rng.random((3, 5)) < 0.5
    shared = {pair: rng.integers(4, size=5) for pair in ((0, 1), (0, 2), (1, 2))}
    [axes] = masks_that_cancel(ballots, shared, 4).axes
    numbers = np.array([int(text.get_text()) for text in axes.texts]).reshape(13, 5)
    assert (numbers[-1] == ballots.sum(axis=0)).all()
    assert (numbers[[3, 7, 11]].sum(axis=0) % 4 == numbers[-1]).all()
    assert (numbers[[1, 5]] == shared[0, 1]).all()  # the same numbers, added and taken away
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names[1] == "+ shared with node 1" and names[5] == "− shared with node 0"


def test_more_pairs_than_colours_are_all_drawn():
    nodes, modulus = 5, 8  # ten pairs
    ballots = np.eye(nodes, dtype=bool)
    shared = {pair: np.full(nodes, 3) for pair in combinations(range(nodes), 2)}
    [axes] = masks_that_cancel(ballots, shared, modulus).axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert sum(name.startswith("+") for name in names) == len(shared)
    assert [text.get_text() for text in axes.texts[-nodes:]] == ["1"] * nodes


def test_a_cell_says_its_share():
    values = np.array([[0.0, 0.25], [0.5, 0.125]])
    one, other = grids_of_shares({"a": values, "b": values / 5}, ["x", "y"], ["p", "q"]).axes
    assert [text.get_text() for text in one.texts] == ["0.0", "25.0", "50.0", "12.5"]
    assert one.images[0].get_clim() == other.images[0].get_clim() == (0, 0.5)


def test_a_picture_stands_above_its_label():
    picture = np.full((1, 4, 4), 0.5)
    colour = np.zeros((3, 4, 4))
    one, other = pictures_with_labels({"as it is": (picture, 3), "red": (colour, 7)}).axes
    assert [axes.get_xlabel() for axes in (one, other)] == ["label 3", "label 7"]
    assert one.images[0].get_array().shape == (4, 4)
    assert other.images[0].get_array().shape == (4, 4, 3)


def test_dots_stand_on_their_votes_with_bars_of_two_standard_errors():
    shares = {"a fault": {(0.5, 1, 5): (0.25, 100), (0.5, 3, 6): (0.5, 25)}}
    [axes] = measured_chances(shares, 10, 0.2).axes
    for container, votes, share, faulty, size in zip(
        axes.containers, (5, 6), (0.25, 0.5), (1, 3), (100, 25), strict=True
    ):
        [x], [y] = container.lines[0].get_data()
        assert (x, y) == (votes, share)
        chance = chance_pruned_of(votes, 0.2, 10, faulty, 0.5)
        [bar] = container.lines[2][0].get_segments()
        assert np.ptp(bar[:, 1]) == pytest.approx(4 * np.sqrt(chance * (1 - chance) / size))


def last_part(chosen, run):
    """Where the coloured part of the last step begins; it is of a single number."""
    [axes] = narrowing_interval(chosen, run).axes
    ours = [patch for patch in axes.patches if patch.get_facecolor() == to_rgba(ORANGE)]
    assert len(ours) == -(-len(chosen) // run) and ours[-1].get_width() == 1
    return int(ours[-1].get_x())


def test_every_number_of_faulty_nodes_has_its_dots():
    faulty = range(8)  # more than there are marks
    found = {(0.5, f, honest): (0.5, 20) for f in faulty for honest in (0, 1)}
    figure = measured_chances({"at random": found}, 9, 0.5)
    assert len(figure.axes[0].containers) == len(faulty)


def test_a_narrowing_interval_ends_at_the_number():
    chosen = np.array([0, 1, 1, 0, 1, 0], bool)
    assert enumerative.encode([chosen], known=True) == bytes([last_part(chosen, 64)])
    choices = [np.isin(range(4), pair) for pair in combinations(range(4), 2)]
    assert sorted(last_part(pair, 2) for pair in choices) == [*range(6)]


def test_a_step_shows_all_parts():
    chosen = np.array([0, 1, 1, 0, 1, 0], bool)
    [axes] = narrowing_interval(chosen, 2).axes
    first = [patch.get_width() for patch in axes.patches if patch.get_y() == 0]
    assert sorted(first) == [4, 4, 6, 6] and axes.get_xlim() == (0, 20)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["·X", "X·", "X·"]
