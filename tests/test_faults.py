"""Laws of every voter fault, and each one by hand."""

import math
from typing import TypeAlias

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mpfl.analysis import faults
from mpfl.analysis.faults import (
    FAULTS,
    UPDATE_FAULTS,
    colluding_veto,
    inverted_mask,
    inverted_update,
    random_mask,
    random_update,
    scaled_update,
)
from mpfl.node import Fault
from mpfl.seeds import rng_for
from mpfl.types import MPFLError

# One row a fault: how hypothesis draws one. A new fault is covered by a new row.
VOTES: dict[str, st.SearchStrategy[Fault]] = {
    "random_mask": st.builds(random_mask),
    "inverted_mask": st.builds(inverted_mask),
    "colluding_veto": st.builds(colluding_veto, st.floats(0, 1), st.integers(0, 99)),
}
VOTE_EXAMPLES = [random_mask(), inverted_mask(), colluding_veto(amount=0.5)]
every_fault = pytest.mark.parametrize("method", VOTE_EXAMPLES, ids=repr)

Masks: TypeAlias = dict[str, np.ndarray]
Vote: TypeAlias = tuple[Masks, Masks]
bits = arrays(bool, st.integers(1, 12))

ALIVE = {"conv1": np.array([1, 1, 1, 1, 0, 0], bool), "conv2": np.array([1, 1, 1, 1], bool)}
HONEST = {"conv1": np.array([1, 0, 0, 1, 0, 0], bool), "conv2": np.array([1, 1, 1, 1], bool)}


@st.composite
def votes(draw: st.DrawFn) -> Vote:
    """An honest mask, and the consensus around it."""
    alive = {name: draw(bits) for name in ("conv1", "conv2")}
    mask = {name: draw(arrays(bool, b.shape)) & b for name, b in alive.items()}
    return mask, alive


def test_the_table_covers_every_fault() -> None:
    public = {
        name
        for name, value in vars(faults).items()
        if isinstance(value, type) and value.__module__ == faults.__name__
    }
    assert set(VOTES) == set(FAULTS) == {type(m).__name__ for m in VOTE_EXAMPLES}
    assert public == {*FAULTS, *UPDATE_FAULTS}


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
    veto = colluding_veto(amount=0.5, seed=3)
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
    mine = colluding_veto(amount=0.3, seed=1)(mask, alive, rng_for(seed))
    yours = colluding_veto(amount=0.3, seed=1)(found, alive, rng_for(seed + 1))
    assert all((mine[name] == yours[name]).all() for name in alive)


def test_the_choice_does_not_depend_on_the_round() -> None:
    # A later round has fewer filters alive: what was spared then is spared now.
    veto, later = colluding_veto(amount=0.5), {**ALIVE, "conv2": np.array([1, 0, 1, 0], bool)}
    honest = {name: HONEST[name] & later[name] for name in later}
    first, second = (veto(m, a, rng_for(0)) for m, a in ((HONEST, ALIVE), (honest, later)))
    assert all((second[name] == (first[name] & later[name])).all() for name in later)


@given(
    amounts=st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted),
    filters=st.integers(1, 70),
    seed=st.integers(0, 99),
)
def test_a_larger_amount_chooses_a_superset(amounts: list[float], filters: int, seed: int) -> None:
    small, large = (colluding_veto(a, seed).chosen("conv", filters) for a in amounts)
    assert not (small & ~large).any()
    assert small.sum() == math.ceil(amounts[0] * filters - 1e-9)


@pytest.mark.parametrize(("amount", "kept"), [(0, 64), (0.25, 48), (0.01, 63), (1, 0)])
def test_the_choice_by_hand(amount: float, kept: int) -> None:
    alive = {"conv": np.ones(64, bool)}
    assert colluding_veto(amount)(alive, alive, rng_for(0))["conv"].sum() == kept


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


@pytest.mark.parametrize(("amount", "seed"), [(-0.1, 0), (1.1, 0), (math.nan, 0), (0.5, -1)])
def test_colluding_veto_refuses_nonsense(amount: float, seed: int) -> None:
    with pytest.raises(MPFLError, match=r"^colluding_veto\(amount=.*give an amount of 0 to 1"):
        colluding_veto(amount, seed)


# --- what a node pretends that its training came to ----------------------------------------------

UPDATES = [inverted_update(), random_update(), scaled_update(100.0), scaled_update(-1.0)]


@pytest.mark.parametrize("fault", UPDATES, ids=repr)
@given(seed=st.integers(0, 99))
def test_an_update_fault_goes_nowhere_that_training_did_not(fault, seed):
    """What is pruned stays zero, types and shapes stay, and nothing that is given is changed."""
    rng = rng_for(seed, "update")
    before = {"w": rng.standard_normal((3, 2)).astype(np.float32), "b": np.zeros(2, np.float32)}
    moves = np.array([[1, 0], [2, 0], [-3, 0]], np.float32)
    after = {"w": before["w"] + moves, "b": before["b"] + np.float32(0.5)}
    copies = [{n: a.copy() for n, a in each.items()} for each in (before, after)]
    told = fault(before, after, rng_for(seed, "fault"))
    for given_, copy in zip((before, after), copies, strict=True):
        assert all(np.array_equal(given_[n], copy[n]) for n in copy)
    assert all((told[n].shape, told[n].dtype) == (a.shape, a.dtype) for n, a in after.items())
    assert np.array_equal(told["w"][:, 1], before["w"][:, 1])
    factor = abs(getattr(fault, "factor", 1.0))
    assert np.allclose(abs(told["w"] - before["w"]), factor * abs(moves), rtol=1e-3, atol=1e-3)
    again = fault(before, after, rng_for(seed, "fault"))
    assert all(np.array_equal(told[n], again[n]) for n in told)


def test_there_is_a_row_for_every_update_fault():
    assert {type(fault).__name__ for fault in UPDATES} == set(UPDATE_FAULTS)
    assert inverted_update()(*({"w": np.array([x])} for x in (1.0, 3.0)), rng_for(0, "x")) == {
        "w": np.array([-1.0])
    }
    with pytest.raises(MPFLError, match="factor is nan; give a finite number"):
        scaled_update(math.nan)
