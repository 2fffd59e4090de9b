"""Laws of every schedule, and each one by hand."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpfl import schedules
from mpfl.schedules import SCHEDULES, arithmetic, cubic, geometric, linear, one_shot
from mpfl.types import MPFLError

finals = st.floats(0, 0.999)

# One row a schedule: how hypothesis draws one. A new schedule is covered by a new row.
TABLE: dict[str, st.SearchStrategy[schedules.Schedule]] = {
    "geometric": st.builds(geometric, st.floats(0, 0.999), st.integers(0, 20)),
    "arithmetic": st.builds(arithmetic, st.floats(0, 0.999), st.integers(0, 20)),
    "linear": st.builds(linear, finals),
    "cubic": st.builds(cubic, finals),
    "one_shot": st.builds(one_shot, finals),
}
every_schedule = pytest.mark.parametrize("name", TABLE)


def test_the_table_covers_every_schedule() -> None:
    public = {
        name
        for name, value in vars(schedules).items()
        if isinstance(value, type) and value.__module__ == schedules.__name__
    }
    assert set(TABLE) == set(SCHEDULES) == public


@every_schedule
@given(data=st.data(), rounds=st.integers(1, 60))
def test_laws(name: str, data: st.DataObject, rounds: int) -> None:
    schedule = data.draw(TABLE[name])
    curve = [schedule(round_, rounds) for round_ in range(1, rounds + 1)]
    assert all(0 <= s < 1 for s in curve)
    assert all(later >= earlier for earlier, later in pairwise(curve))
    if hasattr(schedule, "final"):
        assert curve[-1] == schedule.final
    assert curve == [schedule(round_, rounds) for round_ in range(1, rounds + 1)]
    assert eval(repr(schedule), dict(SCHEDULES)) == schedule


# By hand: each curve can be checked with a pencil.
BY_HAND = [
    (geometric(amount=0.5), 3, [1 / 2, 3 / 4, 7 / 8]),
    (geometric(amount=0.1, warmup=1), 4, [0, 0.1, 0.19, 0.271]),
    (geometric(amount=0.1, warmup=9), 2, [0, 0]),
    (arithmetic(amount=0.1, warmup=1), 5, [0, 0.1, 0.2, 0.3, 0.4]),
    (arithmetic(amount=0.5), 3, [0.5, 1, 1]),
    (linear(final=0.8), 4, [0.2, 0.4, 0.6, 0.8]),
    (cubic(final=0.8), 2, [0.7, 0.8]),
    (cubic(final=0.64), 4, [0.37, 0.56, 0.63, 0.64]),
    (one_shot(final=0.8), 3, [0.8, 0.8, 0.8]),
]


@pytest.mark.parametrize(("schedule", "rounds", "expected"), BY_HAND, ids=repr)
def test_by_hand(schedule: schedules.Schedule, rounds: int, expected: list[float]) -> None:
    assert [schedule(r, rounds) for r in range(1, rounds + 1)] == pytest.approx(expected)


@given(amount=st.floats(0.01, 0.5), rounds=st.integers(2, 20))
def test_geometric_takes_its_amount_of_what_is_kept(amount: float, rounds: int) -> None:
    schedule, kept = geometric(amount), 1.0
    for round_ in range(1, rounds + 1):
        kept -= amount * kept
        assert 1 - schedule(round_, rounds) == pytest.approx(kept)


def test_the_published_run_ends_at_61_percent() -> None:
    # Ten rounds at a factor of 0.1, the first without pruning: 1 - 0.9^9.
    assert round(geometric(amount=0.1, warmup=1)(10, 10), 4) == 0.6126


@given(final=st.floats(0.1, 0.9), rounds=st.integers(2, 40))
def test_cubic_is_never_behind_linear_and_slows_down(final: float, rounds: int) -> None:
    curve = [0.0, *(cubic(final)(r, rounds) for r in range(1, rounds + 1))]
    steps = [later - earlier for earlier, later in pairwise(curve)]
    assert all(b <= a + 1e-12 for a, b in pairwise(steps))
    assert all(curve[r] >= linear(final)(r, rounds) - 1e-12 for r in range(1, rounds + 1))


def test_a_long_geometric_run_stays_below_one() -> None:
    assert geometric(amount=0.9)(10_000, 10_000) < 1


@pytest.mark.parametrize("name", sorted(set(TABLE) - {"geometric", "arithmetic"}))
@pytest.mark.parametrize("bad", [-0.1, 1.0, 80, math.nan])
def test_a_final_that_is_no_share_is_refused(name: str, bad: float) -> None:
    with pytest.raises(MPFLError, match=f"^{name}: final=.* give 0 <= final < 1"):
        SCHEDULES[name](bad)


@pytest.mark.parametrize("schedule", [geometric, arithmetic])
@pytest.mark.parametrize("bad", [-0.1, 1.0, 10, math.nan])
def test_an_amount_that_is_no_share_is_refused(schedule: type, bad: float) -> None:
    with pytest.raises(MPFLError, match=f"^{schedule.__name__}: amount=.* give 0 <= amount < 1"):
        schedule(amount=bad)


@pytest.mark.parametrize("schedule", [geometric, arithmetic])
def test_a_negative_warmup_is_refused(schedule: type) -> None:
    with pytest.raises(MPFLError, match="warmup=-1 is negative"):
        schedule(warmup=-1)


@every_schedule
@pytest.mark.parametrize(("round_", "rounds"), [(0, 5), (6, 5), (-1, 5), (1, 0)])
def test_a_round_outside_the_run_is_refused(name: str, round_: int, rounds: int) -> None:
    with pytest.raises(MPFLError, match=rf"^{name}: .* round {round_} in a run of {rounds}"):
        SCHEDULES[name]()(round_, rounds)
