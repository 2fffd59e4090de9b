"""Small pictures by hand: each square, circle and arrow is one of the numbers that were given."""

import numpy as np
from matplotlib.colors import to_hex

from mpfl.show.plots.squares import (
    ballots,
    directions,
    held,
    pictures_held,
    thinning,
    to_a_mask,
)


def full(axes):
    """Where its full squares lie, by their left upper corners in whole steps."""
    return [
        (int(x), round(y - 0.08, 1))
        for patch in axes.patches
        for x, y in [patch.get_xy()]
        if to_hex(patch.get_facecolor()) not in ("#ffffff", "#f2f2f2")
    ]


def test_votes_their_counts_and_what_a_rule_keeps_stand_below_each_other():
    votes = np.array([[1, 0, 1], [1, 0, 0]], bool)
    [axes] = ballots(votes, {"unanimity": votes.all(axis=0)}).axes
    assert full(axes) == [(0, 0), (2, 0), (0, 1), (0, 3.5)] and len(axes.patches) == 9
    assert [text.get_text() for text in axes.texts] == ["2", "0", "1"]
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert names == ["node 0", "node 1", "votes", "unanimity"]


def test_masks_have_a_panel_per_layer_and_a_line_per_step():
    before = {"one": np.ones(2, bool), "two": np.ones(3, bool)}
    after = {"one": np.array([0, 1], bool), "two": np.array([1, 0, 0], bool)}
    one, two = thinning({"before": before, "after": after}).axes
    assert full(one) == [(0, 0), (1, 0), (1, 1)]
    assert full(two) == [(0, 0), (1, 0), (2, 0), (0, 1)]
    assert [text.get_text() for text in one.get_yticklabels()] == ["before", "after"]
    assert two.get_title(loc="left") == "two, 3 filters"


def test_weights_scores_and_bits_share_a_row():
    filters = np.array([[3, 4], [1, 0]])
    left, middle, right = to_a_mask(filters, np.array([5.0, 1.0]), np.array([True, False])).axes
    assert [text.get_text() for text in left.texts] == ["3", "4", "1", "0"]
    assert [bar.get_width() for bar in middle.patches] == [5, 1]
    assert [text.get_text() for text in right.texts] == ["1", "0"] and full(right) == [(0, 0)]


def test_a_node_shows_its_first_pictures_line_by_line():
    pictures = np.arange(13)[:, None, None] * np.ones((1, 2, 2))
    one, two = pictures_held([pictures, pictures[:12]]).axes
    drawn = one.images[0].get_array()
    assert drawn.shape == (12, 16) and drawn[1::4, 1::4].ravel().tolist() == list(range(12))
    assert one.get_title() == "node 0:\n13 pictures" and two.get_title() == "node 1:\n12 pictures"


def test_a_circle_grows_with_its_count_and_none_is_drawn_for_none():
    one, two = held({"even": np.array([[4, 4]]), "uneven": np.array([[8, 0]])}).axes
    sizes = [[float(mark.get_sizes()[0]) for mark in axes.collections] for axes in (one, two)]
    assert sizes == [[45, 45], [90]] and two.get_title() == "uneven"


def test_an_arrow_points_where_the_vote_does():
    said = np.array([[1, 0], [1, 0], [0, 0]], bool)
    [axes] = directions(said, np.array([True, False])).axes
    assert [line.get_marker() for line in axes.lines] == list("^v^vvv^v")
    assert [text.get_text() for text in axes.get_yticklabels()][-1] == "the majority"
