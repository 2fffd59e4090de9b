"""Laws of every data noise, and each one by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mpfl.data import noise
from mpfl.data.noise import (
    DATA_NOISES,
    DataNoise,
    blurred,
    first_classes,
    gaussian,
    label_noise,
    permuted_labels,
    shuffled_pixels,
)
from mpfl.seeds import rng_for
from mpfl.types import MPFLError

# One row a noise: how hypothesis draws one. A new noise is covered by a new row.
DATA: dict[str, st.SearchStrategy[DataNoise]] = {
    "permuted_labels": st.builds(permuted_labels),
    "shuffled_pixels": st.builds(shuffled_pixels),
    "gaussian": st.builds(gaussian, st.floats(0, 2)),
    "label_noise": st.builds(label_noise, st.floats(0, 1)),
    "blurred": st.builds(blurred, st.integers(1, 3)),
    "first_classes": st.builds(first_classes, st.just(2)),  # with labels of these: see below
}
DATA_EXAMPLES = [
    permuted_labels(),
    shuffled_pixels(),
    gaussian(sigma=0.1),
    label_noise(rate=0.5),
    blurred(reach=1),
    first_classes(count=5),
]
every_noise = pytest.mark.parametrize("method", DATA_EXAMPLES, ids=repr)

IMAGES = rng_for(0, "images").integers(0, 256, (40, 3, 4, 5), dtype=np.uint8)
LABELS = np.tile(np.arange(10), 4)


def test_the_table_covers_every_noise() -> None:
    public = {
        name
        for name, value in vars(noise).items()
        if isinstance(value, type) and value.__module__ == noise.__name__
    }
    assert set(DATA) == set(DATA_NOISES) == public == {type(m).__name__ for m in DATA_EXAMPLES}


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
    most = 1 if isinstance(method, first_classes) else classes - 1
    labels = data.draw(arrays(label_type, shape[0], elements=st.integers(0, most)))
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
    if isinstance(method, first_classes):  # whole pictures, with their labels
        assert (images != IMAGES).any() and (labels != LABELS).any()
        return
    assert (images != IMAGES).any() == (type(method) in (shuffled_pixels, gaussian, blurred))
    assert (labels != LABELS).any() == (type(method) in (permuted_labels, label_noise))


@every_noise
def test_another_seed_gives_other_data_noise(method: DataNoise) -> None:
    first, second = (method(IMAGES, LABELS, 10, rng_for(seed)) for seed in (0, 1))
    if isinstance(method, blurred):  # draws nothing
        assert (first[0] == second[0]).all()
        return
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


def test_a_blur_is_the_mean_of_a_square() -> None:
    seen, _ = blurred(reach=1)(IMAGES, LABELS, 10, rng_for(0))
    inside = IMAGES[3, 1, 0:3, 1:4].astype(float).mean()
    assert seen[3, 1, 1, 2] == pytest.approx(inside, abs=0.51)
    corner = np.pad(IMAGES[3, 1], 1, mode="edge")[0:3, 0:3].astype(float).mean()
    assert seen[3, 1, 0, 0] == pytest.approx(corner, abs=0.51)


def test_a_blur_leaves_a_plain_picture_plain() -> None:
    grey = np.full((2, 3, 4, 5), 77, np.uint8)
    assert (blurred(reach=2)(grey, LABELS[:2], 10, rng_for(0))[0] == 77).all()


def test_first_classes_keep_their_own_pictures_and_repeat_them() -> None:
    images, labels = first_classes(count=3)(IMAGES, LABELS, 10, rng_for(0))
    met = LABELS < 3
    assert (labels[met] == LABELS[met]).all() and (images[met] == IMAGES[met]).all()
    assert set(labels) == {0, 1, 2}
    for image, label in zip(images[~met], labels[~met], strict=True):
        assert any((image == IMAGES[place]).all() for place in np.flatnonzero(label == LABELS))


def test_first_classes_that_a_node_has_not_are_refused() -> None:
    with pytest.raises(MPFLError, match="has no picture of the first 3 classes"):
        first_classes(count=3)(IMAGES[:2], np.array([4, 5]), 10, rng_for(0))
    with pytest.raises(MPFLError, match="count is 11, but there are 10 classes; give fewer"):
        first_classes(count=11)(IMAGES, LABELS, 10, rng_for(0))
    assert (first_classes(count=10)(IMAGES, LABELS, 10, rng_for(0))[1] == LABELS).all()
    with pytest.raises(MPFLError, match="blurred: reach is 0; give 1 or more"):
        blurred(reach=0)


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
    (IMAGES, LABELS / 1, 10, "one whole number per image"),
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
