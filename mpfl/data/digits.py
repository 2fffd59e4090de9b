"""The UCI digits, 1,797 images of 8 x 8. They come with scikit-learn, so nothing is fetched."""

from __future__ import annotations

import numpy as np

from mpfl.data.dataset import Dataset, channel_stats
from mpfl.seeds import rng_for


def uci_digits() -> Dataset:
    """The digits; about a fifth of each class is the test set, which is the same in every run."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    # 0..16 to 0..255, rounded: 17 levels stay 17 levels.
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[:, None]
    labels = bunch.target.astype(np.int64)
    rng = rng_for(0, "data", "digits")
    test = np.zeros(len(labels), dtype=bool)
    for label in range(10):
        members = rng.permutation(np.flatnonzero(labels == label))
        test[members[: round(len(members) / 5)]] = True
    mean, std = channel_stats(images[~test])
    classes = tuple(str(label) for label in range(10))
    train = images[~test], labels[~test]
    return Dataset("digits", *train, images[test], labels[test], classes, mean, std)
