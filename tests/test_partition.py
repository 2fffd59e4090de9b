"""Laws of every partition, and each one by hand."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mpfl.data import partition
from mpfl.data.partition import PARTITIONS, dirichlet, iid, shards
from mpfl.seeds import rng_for
from mpfl.types import MPFLError

# One row a partition: how hypothesis draws one. A new partition is covered by a new row.
TABLE: dict[str, st.SearchStrategy[partition.Partition]] = {
    "iid": st.builds(iid),
    "dirichlet": st.builds(dirichlet, st.floats(0.05, 1000)),
    "shards": st.builds(shards, st.integers(1, 4)),
}
EXAMPLES = [iid(), dirichlet(alpha=10), shards(per_node=2)]
every_example = pytest.mark.parametrize("method", EXAMPLES, ids=repr)
ten_classes = np.tile(np.arange(10), 100)


def classes_of(labels: np.ndarray, part: np.ndarray) -> set[int]:
    return set(labels[part].tolist())


def test_the_table_covers_every_partition() -> None:
    public = {
        name
        for name, value in vars(partition).items()
        if isinstance(value, type) and value.__module__ == partition.__name__
    }
    assert set(TABLE) == set(PARTITIONS) == public == {type(m).__name__ for m in EXAMPLES}


@pytest.mark.parametrize("name", TABLE)
@given(
    data=st.data(),
    labels=st.lists(st.integers(0, 5), min_size=1, max_size=80).map(np.array),
    nodes=st.integers(1, 8),
    seed=st.integers(0, 2**32),
)
def test_laws(name: str, data: st.DataObject, labels: np.ndarray, nodes: int, seed: int) -> None:
    method = data.draw(TABLE[name])
    assume(nodes * getattr(method, "per_node", 1) <= len(labels))
    before = labels.copy()
    try:
        parts = method(labels, nodes, rng_for(seed))
    except MPFLError as error:
        # Only a Dirichlet draw may leave a node with nothing, and then it says so.
        assert name == "dirichlet" and "is left with no data" in str(error)
        return
    assert len(parts) == nodes and all(len(part) > 0 for part in parts)
    assert all((np.diff(part) > 0).all() for part in parts)
    assert np.sort(np.concatenate(parts)).tolist() == list(range(len(labels)))
    assert (labels == before).all()
    if isinstance(method, shards):
        assert max(map(len, parts)) - min(map(len, parts)) <= method.per_node
    again = method(labels, nodes, rng_for(seed))
    assert all((a == b).all() for a, b in zip(parts, again, strict=True))
    assert eval(repr(method), dict(PARTITIONS)) == method


@every_example
def test_another_seed_gives_another_partition(method: partition.Partition) -> None:
    first = method(ten_classes, 4, rng_for(0))
    second = method(ten_classes, 4, rng_for(1))
    assert any(a.tolist() != b.tolist() for a, b in zip(first, second, strict=True))


@every_example
def test_one_node_holds_everything(method: partition.Partition) -> None:
    assert method(ten_classes, 1, rng_for(0))[0].tolist() == list(range(1000))


@given(images=st.integers(1, 100), nodes=st.integers(1, 10), seed=st.integers(0, 99))
def test_iid_sizes_differ_by_at_most_one(images: int, nodes: int, seed: int) -> None:
    assume(nodes <= images)
    sizes = [len(p) for p in iid()(np.zeros(images, int), nodes, rng_for(seed))]
    assert sizes == sorted(sizes, reverse=True) and max(sizes) - min(sizes) <= 1


def test_iid_by_hand() -> None:
    # 10 images among 3 nodes: 4, 3 and 3.
    assert [len(p) for p in iid()(np.zeros(10, int), 3, rng_for(0))] == [4, 3, 3]


def test_iid_mixes_the_classes() -> None:
    # 250 images of 10 classes at each of 4 nodes: 25 per class, within five deviations (4.1).
    for part in iid()(np.sort(ten_classes), 4, rng_for(0)):
        counts = np.bincount(np.sort(ten_classes)[part], minlength=10)
        assert (np.abs(counts - 25) <= 21).all()


def test_shards_by_hand() -> None:
    # Sorted by label the images are 2 3 | 4 5 | 0 1: three shards, one for each node.
    labels = np.array([7, 7, 0, 0, 3, 3])
    parts = shards(per_node=1)(labels, 3, rng_for(0))
    assert sorted(p.tolist() for p in parts) == [[0, 1], [2, 3], [4, 5]]


@given(seed=st.integers(0, 999), per_node=st.integers(1, 2))
def test_shards_limit_the_classes_of_a_node(seed: int, per_node: int) -> None:
    # 10 classes x 100 images, 5 nodes: 10 shards of one class each, or 5 of two classes.
    parts = shards(per_node)(ten_classes, 5, rng_for(seed))
    assert all(len(classes_of(ten_classes, p)) == 2 and len(p) == 200 for p in parts)


def test_shards_are_dealt_at_random_to_every_node() -> None:
    # Node 0 gets each of the 10 classes at some seed, not always the first two.
    seen = [classes_of(ten_classes, shards(2)(ten_classes, 5, rng_for(s))[0]) for s in range(60)]
    assert set.union(*seen) == set(range(10))


def test_a_large_alpha_is_nearly_even() -> None:
    # Each node expects 25 of the 100 images of a class; at this alpha, rounding is all.
    for part in dirichlet(alpha=1e6)(ten_classes, 4, rng_for(0)):
        assert (np.abs(np.bincount(ten_classes[part], minlength=10) - 25) <= 1).all()


def test_a_small_alpha_gives_a_class_to_one_node() -> None:
    parts = dirichlet(alpha=0.01)(ten_classes, 2, rng_for(1))
    counts = np.array([np.bincount(ten_classes[p], minlength=10) for p in parts])
    assert (counts.max(axis=0) >= 95).sum() >= 8


def test_dirichlet_draws_which_images_of_a_class_a_node_gets() -> None:
    # About half of one class each: were they dealt in order, node 0 would hold the first 500.
    first = dirichlet(alpha=1e6)(np.zeros(1000, int), 2, rng_for(0))[0]
    assert 150 <= (first < 500).sum() <= 350


def test_dirichlet_favours_no_node() -> None:
    # One image per class and 4 nodes: rounding alone decides, and each node gets a quarter.
    labels = np.arange(400)
    sizes = np.array([len(p) for p in dirichlet(alpha=1e6)(labels, 4, rng_for(0))])
    assert (np.abs(sizes - 100) <= 45).all()  # five deviations of a binomial


def test_dirichlet_shares_have_the_variance_of_their_alpha() -> None:
    # A share of Dirichlet(a, a) is Beta(a, a): mean 1/2, variance 1 / (4 (2 a + 1)).
    labels = np.repeat(np.arange(300), 400)
    first = dirichlet(alpha=2.0)(labels, 2, rng_for(0))[0]
    shares = np.bincount(labels[first], minlength=300) / 400
    assert shares.mean() == pytest.approx(0.5, abs=0.06)
    assert shares.var() == pytest.approx(1 / 20, rel=0.3)


@every_example
@pytest.mark.parametrize("nodes", [0, -3])
def test_fewer_than_one_node_is_refused(method: partition.Partition, nodes: int) -> None:
    with pytest.raises(MPFLError, match=f"among {nodes} nodes; ask for at least 1"):
        method(ten_classes, nodes, rng_for(0))


@every_example
def test_more_nodes_than_images_are_refused(method: partition.Partition) -> None:
    with pytest.raises(MPFLError, match="4 nodes are more than the 3 images; ask for fewer"):
        method(np.arange(3), 4, rng_for(0))


@every_example
def test_labels_of_another_shape_are_refused(method: partition.Partition) -> None:
    with pytest.raises(MPFLError, match="give one per image"):
        method(np.zeros((8, 10)), 2, rng_for(0))


def test_a_node_left_with_no_data_is_named() -> None:
    # One class of 20 images, at an alpha where one node takes it all.
    message = r"node \d is left with no data .*another seed, a larger alpha or fewer nodes$"
    with pytest.raises(MPFLError, match=message):
        dirichlet(alpha=1e-4)(np.zeros(20, int), 4, rng_for(0))


def test_more_shards_than_images_are_refused() -> None:
    with pytest.raises(MPFLError, match="3 nodes x 2 shards are more than the 5 images"):
        shards(per_node=2)(np.arange(5), 3, rng_for(0))


@pytest.mark.parametrize("bad", [0.0, -1.0, math.inf, math.nan])
def test_an_alpha_that_is_not_positive_is_refused(bad: float) -> None:
    with pytest.raises(MPFLError, match="not a positive number"):
        dirichlet(alpha=bad)


def test_shards_that_deal_nothing_are_refused() -> None:
    with pytest.raises(MPFLError, match="per_node=0 deals nothing"):
        shards(per_node=0)


@given(
    st.sampled_from([partition.iid(), partition.dirichlet(0.3), partition.shards(2)]),
    st.integers(1, 6),
    st.integers(0, 50),
    st.integers(0, 99),
)
def test_other_images_are_dealt_by_the_classes_that_a_node_holds(
    method: partition.Partition, nodes: int, others: int, seed: int
) -> None:
    labels = np.repeat(np.arange(5), 30)
    try:
        parts = method(labels, nodes, rng_for(seed))
    except MPFLError:  # a draw that leaves a node with nothing
        return
    test = rng_for(seed, "labels").integers(0, 6, others)  # class 5 is nobody's
    dealt = partition.dealt_alike(parts, labels, test, rng_for(seed, "test"))
    assert sorted(np.concatenate(dealt)) == list(np.flatnonzero(test < 5)), "each goes to one node"
    for part, own in zip(parts, dealt, strict=True):
        for label in range(5):
            share = (labels[part] == label).sum() / 30 * (test == label).sum()
            assert abs((test[own] == label).sum() - share) < 1
            assert share > 0 or label not in test[own], "judged on what it does not hold"


def test_which_other_images_a_node_gets_is_drawn() -> None:
    labels, parts = np.zeros(10, int), [np.arange(5), np.arange(5, 10)]
    draws = {tuple(partition.dealt_alike(parts, labels, labels, rng_for(s))[0]) for s in range(9)}
    assert len(draws) > 5
