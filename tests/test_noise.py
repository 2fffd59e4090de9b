"""Laws of every data noise and of every voter fault, and each one by hand."""

import math
from typing import TypeAlias

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays


from mpfl.analysis.faults import FAULTS, colluding_veto, inverted_mask, random_mask
from mpfl.node import Fault
from mpfl.data import noise
from mpfl.data.noise import (
    DATA_NOISES,
    DataNoise,
    gaussian,
    label_noise,
    permuted_labels,
    shuffled_pixels,
)
from mpfl.seeds import rng_for
from mpfl.types import MPFLError

# One row a method: how hypothesis draws one. A new method is covered by a new row.
DATA: dict[str, st.SearchStrategy[DataNoise]] = {
    "permuted_labels": st.builds(permuted_labels),
    "shuffled_pixels": st.builds(shuffled_pixels),
    "gaussian": st.builds(gaussian, st.floats(0, 2)),
    "label_noise": st.builds(label_noise, st.floats(0, 1)),
}
VOTES: dict[str, st.SearchStrategy[Fault]] = {
    "random_mask": st.builds(random_mask),
    "inverted_mask": st.builds(inverted_mask),
    "colluding_veto": st.builds(colluding_veto, st.floats(0, 1), st.integers(0, 99)),
}
DATA_EXAMPLES = [permuted_labels(), shuffled_pixels(), gaussian(sigma=0.1), label_noise(rate=0.5)]
VOTE_EXAMPLES = [random_mask(), inverted_mask(), colluding_veto(share=0.5)]
every_noise = pytest.mark.parametrize("method", DATA_EXAMPLES, ids=repr)
every_fault = pytest.mark.parametrize("method", VOTE_EXAMPLES, ids=repr)

IMAGES = rng_for(0, "images").integers(0, 256, (40, 3, 4, 5), dtype=np.uint8)
LABELS = np.tile(np.arange(10), 4)
Masks: TypeAlias = dict[str, np.ndarray]
Vote: TypeAlias = tuple[Masks, Masks]
bits = arrays(bool, st.integers(1, 12))


@st.composite
def votes(draw: st.DrawFn) -> Vote:
    """An honest mask, and the consensus around it."""
    alive = {name: draw(bits) for name in ("conv1", "conv2")}
    mask = {name: draw(arrays(bool, b.shape)) & b for name, b in alive.items()}
    return mask, alive


def test_the_tables_cover_every_method() -> None:
    public = {
        name
        for module in (noise, faults)
        for name, value in vars(module).items()
        if isinstance(value, type) and value.__module__ == module.__name__
    }
    assert set(DATA) == set(DATA_NOISES) == {type(m).__name__ for m in DATA_EXAMPLES}
    assert set(VOTES) == set(FAULTS) == {type(m).__name__ for m in VOTE_EXAMPLES}
    assert set(DATA) | set(VOTES) == public


# Data noise


@pytest.mark.parametrize("name", DATA)
@settings(max_examples=50)
@given(
    data=st.data(),
    shape=st.tuples(st.integers(0, 5), st.sampled_from([1, 3]), *[st.integers(1, 4)] * 2),
    label_type=st.sampled_from([np.int64, np.uint8]),
    classes=st.integers(2, 256),
    seed=st.integers(0, 999),
)
def test_laws_of_data_noise(
    name: str,
    data: st.DataObject,
    shape: tuple[int, ...],
    label_type: type[np.integer],
    classes: int,
    seed: int,
) -> None:
    method = data.draw(DATA[name])
    images = data.draw(arrays(np.uint8, shape))
    labels = data.draw(arrays(label_type, shape[0], elements=st.integers(0, classes - 1)))
    images_before, labels_before = images.copy(), labels.copy()
    new_images, new_labels = method(images, labels, classes, rng_for(seed))
    assert (images == images_before).all() and (labels == labels_before).all()
    assert new_images.shape == shape and new_images.dtype == np.uint8
    assert new_labels.shape == labels.shape and new_labels.dtype == label_type
    assert ((new_labels >= 0) & (new_labels < classes)).all()
    again = method(images, labels, classes, rng_for(seed))
    assert (again[0] == new_images).all() and (again[1] == new_labels).all()
    assert eval(repr(method), dict(DATA_NOISES)) == method


@every_noise
def test_data_noise_changes_one_side_only(method: DataNoise) -> None:
    images, labels = method(IMAGES, LABELS, 10, rng_for(0))
    assert (images != IMAGES).any() == (type(method) in (shuffled_pixels, gaussian))
    assert (labels != LABELS).any() == (type(method) in (permuted_labels, label_noise))


@every_noise
def test_another_seed_gives_other_data_noise(method: DataNoise) -> None:
    first, second = (method(IMAGES, LABELS, 10, rng_for(seed)) for seed in (0, 1))
    assert (first[0] != second[0]).any() or (first[1] != second[1]).any()


@given(classes=st.integers(2, 12), seed=st.integers(0, 999))
def test_permuted_labels_are_a_permutation_without_fixed_point(classes: int, seed: int) -> None:
    every = np.arange(classes)
    _, mapped = permuted_labels()(IMAGES[:classes], every, classes, rng_for(seed))
    assert sorted(mapped.tolist()) == every.tolist() and (mapped != every).all()


def test_permuted_labels_by_hand() -> None:
    # Two classes have one such permutation: they swap.
    _, labels = permuted_labels()(IMAGES[:4], np.array([0, 1, 1, 0]), 2, rng_for(0))
    assert labels.tolist() == [1, 0, 0, 1]


def test_permuted_labels_are_the_same_for_all_images_of_a_class() -> None:
    _, labels = permuted_labels()(IMAGES, LABELS, 10, rng_for(0))
    assert (labels.reshape(4, 10) == labels[:10]).all()


def test_permuted_labels_are_drawn_uniformly() -> None:
    # Four classes have nine permutations without a fixed point.
    every, rng = np.arange(4), rng_for(0)
    drawn = [tuple(permuted_labels()(IMAGES[:4], every, 4, rng)[1]) for _ in range(900)]
    counts = [drawn.count(one) for one in set(drawn)]
    assert len(counts) == 9 and all(abs(count - 100) <= 48 for count in counts)


def test_shuffled_pixels_keep_each_channel_of_each_image() -> None:
    shuffled, _ = shuffled_pixels()(IMAGES, LABELS, 10, rng_for(0))
    assert (np.sort(shuffled.reshape(40, 3, -1)) == np.sort(IMAGES.reshape(40, 3, -1))).all()


def test_shuffled_pixels_shuffle_each_channel_of_each_image_its_own_way() -> None:
    # Every channel of every image counts 0..63, so the result is the permutation itself.
    ramp = np.broadcast_to(np.arange(64, dtype=np.uint8).reshape(8, 8), (5, 3, 8, 8))
    shuffled, _ = shuffled_pixels()(ramp, LABELS[:5], 10, rng_for(0))
    assert len({channel.tobytes() for channel in shuffled.reshape(15, 64)}) == 15


def test_gaussian_has_its_sigma() -> None:
    grey = np.full((20, 3, 32, 32), 128, dtype=np.uint8)
    noisy, _ = gaussian(sigma=0.1)(grey, LABELS[:20], 10, rng_for(0))
    assert noisy.mean() == pytest.approx(128, abs=0.5)
    assert noisy.std() == pytest.approx(25.5, rel=0.02)
    assert len(np.unique(noisy[0, 0])) > 50  # every pixel its own noise


def test_gaussian_clips_instead_of_wrapping_round() -> None:
    # From black, half of the noise is below 0 and must come out as 0, not as nearly 255.
    black = np.zeros((20, 3, 32, 32), dtype=np.uint8)
    noisy, _ = gaussian(sigma=0.1)(black, LABELS[:20], 10, rng_for(0))
    assert 0.45 < (noisy == 0).mean() < 0.55 and noisy.max() < 200


def test_gaussian_rounds_to_the_nearest() -> None:
    # A deviation of 0.1 grey levels never reaches the next level; cutting off would.
    noisy, _ = gaussian(sigma=0.1 / 255)(IMAGES, LABELS, 10, rng_for(0))
    assert (noisy == IMAGES).mean() > 0.999


@pytest.mark.parametrize("method", [gaussian(sigma=0), label_noise(rate=0)], ids=repr)
def test_no_noise_changes_nothing(method: DataNoise) -> None:
    images, labels = method(IMAGES, LABELS, 10, rng_for(0))
    assert (images == IMAGES).all() and (labels == LABELS).all()


def test_label_noise_by_hand() -> None:
    # At rate 1 with two classes, every label is the other one.
    _, labels = label_noise(rate=1)(IMAGES[:4], np.array([0, 1, 1, 0]), 2, rng_for(0))
    assert labels.tolist() == [1, 0, 0, 1]


def test_label_noise_has_its_rate_and_favours_no_class() -> None:
    images, labels = np.zeros((20_000, 1, 1, 1), np.uint8), np.full(20_000, 3)
    _, noisy = label_noise(rate=0.4)(images, labels, 5, rng_for(0))
    counts = np.bincount(noisy, minlength=5)
    assert counts == pytest.approx([2000, 2000, 2000, 12_000, 2000], abs=350)


def test_a_larger_rate_spoils_the_same_labels_and_more() -> None:
    spoiled = [label_noise(r)(IMAGES, LABELS, 10, rng_for(0))[1] != LABELS for r in (0.2, 0.6)]
    assert not (spoiled[0] & ~spoiled[1]).any() and spoiled[0].sum() < spoiled[1].sum()


BAD_DATA = [
    (IMAGES / 255, LABELS, 10, "before the images are scaled"),
    (IMAGES[0], LABELS[:3], 10, r"not uint8\[n, c, h, w\]"),
    (IMAGES, LABELS[:-1], 10, r"labels are int64\[39\] for 40 images"),
    (IMAGES, LABELS / 1, 10, "one whole number an image"),
    (IMAGES, LABELS, 9, "9 classes do not do for labels"),
    (IMAGES, LABELS - 1, 10, r"labels \[-1, 0"),
]


@every_noise
@pytest.mark.parametrize(("images", "labels", "classes", "message"), BAD_DATA)
def test_bad_data_is_refused(
    method: DataNoise, images: np.ndarray, labels: np.ndarray, classes: int, message: str
) -> None:
    with pytest.raises(MPFLError, match=f"^{type(method).__name__}: .*{message}"):
        method(images, labels, classes, rng_for(0))


@pytest.mark.parametrize("method", [permuted_labels(), label_noise(0.5)], ids=repr)
def test_one_class_has_no_wrong_label(method: DataNoise) -> None:
    with pytest.raises(MPFLError, match="give at least 2 classes"):
        method(IMAGES, np.zeros(40, int), 1, rng_for(0))


@pytest.mark.parametrize("bad", [-0.1, math.nan, math.inf])
def test_gaussian_refuses_what_is_no_deviation(bad: float) -> None:
    with pytest.raises(MPFLError, match=r"^gaussian: sigma="):
        gaussian(sigma=bad)


@pytest.mark.parametrize("bad", [-0.1, 1.1, math.nan])
def test_label_noise_refuses_what_is_no_probability(bad: float) -> None:
    with pytest.raises(MPFLError, match=r"^label_noise: rate="):
        label_noise(rate=bad)


# Voter faults

ALIVE = {"conv1": np.array([1, 1, 1, 1, 0, 0], bool), "conv2": np.array([1, 1, 1, 1], bool)}
HONEST = {"conv1": np.array([1, 0, 0, 1, 0, 0], bool), "conv2": np.array([1, 1, 1, 1], bool)}


@pytest.mark.parametrize("name", VOTES)
@settings(max_examples=50)
@given(data=st.data(), vote=votes(), seed=st.integers(0, 999))
def test_laws_of_voter_faults(name: str, data: st.DataObject, vote: Vote, seed: int) -> None:
    method = data.draw(VOTES[name])
    mask, alive = vote
    before = {name: (mask[name].copy(), alive[name].copy()) for name in mask}
    result = method(mask, alive, rng_for(seed))
    assert list(result) == list(alive)
    for layer, kept in result.items():
        assert kept.dtype == np.bool_ and kept.shape == alive[layer].shape
        assert not (kept & ~alive[layer]).any()
        assert (mask[layer] == before[layer][0]).all() and (alive[layer] == before[layer][1]).all()
        assert kept is not alive[layer] and kept is not mask[layer]
    again = method(mask, alive, rng_for(seed))
    assert all((again[layer] == result[layer]).all() for layer in result)
    assert eval(repr(method), dict(FAULTS)) == method


@settings(max_examples=50)
@given(vote=votes(), seed=st.integers(0, 999))
def test_random_mask_keeps_the_honest_count(vote: Vote, seed: int) -> None:
    mask, alive = vote
    result = random_mask()(mask, alive, rng_for(seed))
    assert {n: b.sum() for n, b in result.items()} == {n: b.sum() for n, b in mask.items()}


def test_random_mask_is_uniform_among_the_filters_alive() -> None:
    # Two of four alive: each is kept in half of the draws, whatever the honest mask says.
    rng = rng_for(0)
    drawn = np.array([random_mask()(HONEST, ALIVE, rng)["conv1"] for _ in range(1000)])
    assert drawn.mean(axis=0) == pytest.approx([0.5, 0.5, 0.5, 0.5, 0, 0], abs=0.08)


def test_inverted_mask_by_hand() -> None:
    result = inverted_mask()(HONEST, ALIVE, rng_for(0))
    assert result["conv1"].tolist() == [False, True, True, False, False, False]
    assert result["conv2"].tolist() == [False] * 4  # nothing was dropped, so nothing is kept


@settings(max_examples=50)
@given(vote=votes())
def test_inverting_twice_gives_the_honest_mask(vote: Vote) -> None:
    mask, alive = vote
    twice = inverted_mask()(inverted_mask()(mask, alive, rng_for(0)), alive, rng_for(0))
    assert all((twice[name] == mask[name]).all() for name in mask)


def test_colluding_veto_keeps_everything_alive_but_the_chosen() -> None:
    veto = colluding_veto(share=0.5, seed=3)
    result = veto(HONEST, ALIVE, rng_for(0))
    for name, alive in ALIVE.items():
        chosen = veto.chosen(name, alive.size)
        assert chosen.sum() == alive.size / 2
        assert (result[name] == (alive & ~chosen)).all()


@settings(max_examples=50)
@given(vote=votes(), other=votes(), seed=st.integers(0, 999))
def test_colluders_agree_whatever_they_found_and_draw(vote: Vote, other: Vote, seed: int) -> None:
    mask, alive = vote
    found = {n: np.resize(other[0][n], b.size) & b for n, b in alive.items()}
    mine = colluding_veto(share=0.3, seed=1)(mask, alive, rng_for(seed))
    yours = colluding_veto(share=0.3, seed=1)(found, alive, rng_for(seed + 1))
    assert all((mine[name] == yours[name]).all() for name in alive)


def test_the_choice_does_not_depend_on_the_round() -> None:
    # A later round has fewer filters alive: what was spared then is spared now.
    veto, later = colluding_veto(share=0.5), {**ALIVE, "conv2": np.array([1, 0, 1, 0], bool)}
    honest = {name: HONEST[name] & later[name] for name in later}
    first, second = (veto(m, a, rng_for(0)) for m, a in ((HONEST, ALIVE), (honest, later)))
    assert all((second[name] == (first[name] & later[name])).all() for name in later)


@given(
    shares=st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted),
    filters=st.integers(1, 70),
    seed=st.integers(0, 99),
)
def test_a_larger_share_chooses_a_superset(shares: list[float], filters: int, seed: int) -> None:
    small, large = (colluding_veto(s, seed).chosen("conv", filters) for s in shares)
    assert not (small & ~large).any()
    assert small.sum() == math.ceil(shares[0] * filters - 1e-9)


@pytest.mark.parametrize(("share", "kept"), [(0, 64), (0.25, 48), (0.01, 63), (1, 0)])
def test_the_choice_by_hand(share: float, kept: int) -> None:
    alive = {"conv": np.ones(64, bool)}
    assert colluding_veto(share)(alive, alive, rng_for(0))["conv"].sum() == kept


def test_other_seeds_and_other_layers_choose_other_filters() -> None:
    chosen = [
        colluding_veto(0.5, seed).chosen(layer, 64) for seed in (0, 1) for layer in ("a", "b")
    ]
    assert len({one.tobytes() for one in chosen}) == 4


BAD_VOTES = [
    ({"conv1": HONEST["conv1"]}, ALIVE, "differ in layer 'conv2'"),
    (HONEST, {"conv1": ALIVE["conv1"]}, "differ in layer 'conv2'"),
    ({**HONEST, "conv2": np.ones(5, bool)}, ALIVE, "differ in layer 'conv2'"),
    ({**HONEST, "conv1": np.ones(6, bool)}, ALIVE, "layer 'conv1' brings back pruned"),
]


@every_fault
@pytest.mark.parametrize(("mask", "alive", "message"), BAD_VOTES)
def test_a_mask_that_is_not_honest_is_refused(
    method: Fault, mask: Masks, alive: Masks, message: str
) -> None:
    with pytest.raises(MPFLError, match=f"^{type(method).__name__}: .*{message}"):
        method(mask, alive, rng_for(0))


@pytest.mark.parametrize(("share", "seed"), [(-0.1, 0), (1.1, 0), (math.nan, 0), (0.5, -1)])
def test_colluding_veto_refuses_nonsense(share: float, seed: int) -> None:
    with pytest.raises(MPFLError, match=r"^colluding_veto\(share=.*give a share of 0 to 1"):
        colluding_veto(share, seed)
