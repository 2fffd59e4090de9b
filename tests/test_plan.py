"""What every party knows before the first round, and how w0 reaches it."""

import re
from dataclasses import replace

import pytest
from federation import PLAN, WIDE, begin, initialise, method
from toys import TOY, draw_weights, mask_of, same

from mpfl import masks, wire
from mpfl.algorithm import Start, joiner, start_message
from mpfl.allocate import even, of_what_is_left, over_network
from mpfl.masks import Keep
from mpfl.node import Plan
from mpfl.schedules import arithmetic, linear, one_shot
from mpfl.types import MPFLError

ALL = masks.full(TOY)

# --- the plan --------------------------------------------------------------------------------


def test_what_a_plan_keeps_by_hand():
    # TOY has layers of 4, 3 and 5 filters; a third and two thirds are to go.
    plan = Plan(TOY, linear(2 / 3), rounds=2)
    assert [plan.sparsity(r) for r in (1, 2)] == pytest.approx([1 / 3, 2 / 3])
    assert plan.keep(1, ALL) == Keep.by_layer({"conv1": 2, "conv2": 2, "fc": 3})
    assert plan.keep(2, ALL) == Keep.by_layer({"conv1": 1, "conv2": 1, "fc": 1})
    network = replace(plan, quota=over_network())
    assert [network.keep(r, ALL) for r in (1, 2)] == [Keep({tuple(ALL): 8}), Keep({tuple(ALL): 4})]


def test_a_plan_never_keeps_more_than_is_alive():
    alive = mask_of(TOY, "#...", "###", "##...")
    plan = Plan(TOY, linear(0.5), rounds=2)
    assert plan.keep(1, alive) == Keep.by_layer({"conv1": 1, "conv2": 2, "fc": 2})
    assert replace(plan, quota=over_network()).keep(1, alive).total == 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: {"rounds": 0}, "rounds is 0; give at least 1"),
        (lambda: {"quota": over_network(0)}, "floor is 0, but every layer needs at least 1 filter"),
        (lambda: {"quota": over_network(-1)}, "floor is -1"),
        # conv2 is the smallest layer: of its three filters none would be left.
        (lambda: {"schedule": linear(0.7)}, "leaves layer 'conv2' with none of its 3 filters"),
        (lambda: {"schedule": one_shot(0.9)}, "leaves layer 'conv1' with none of its 4 filters"),
        (
            lambda: {"schedule": lambda r, rounds: 0.9 if r == 1 else 0.0},
            "leaves layer 'conv1'",
        ),
        (
            lambda: {"schedule": lambda r, rounds: 30.0},
            "round 1 asks for a sparsity of 30.0 after 0.0",
        ),
        # Six filters stay, but two per layer and all three of conv2 would be eight.
        (
            lambda: {"quota": over_network(3)},
            "round 2 keeps 6 filters, but a floor of 3 takes 9",
        ),
        # What the server alone goes by is looked at, too.
        (lambda: {"quota": even(required=linear(0.7))}, "leaves layer 'conv2' with none of its 3"),
        (lambda: {"quota": of_what_is_left(required=arithmetic(0.4))}, "leaves layer 'conv1'"),
    ],
)
def test_a_plan_that_cannot_be_kept_is_refused_before_the_first_round(change, message):
    with pytest.raises(MPFLError, match=re.escape(message)):
        replace(Plan(TOY, linear(0.5), rounds=2), **change())


def test_a_floor_takes_no_more_than_a_layer_has():
    Plan(TOY, linear(0.0), rounds=1, quota=over_network(9))


def test_a_plan_knows_two_codings(types_unchecked):
    plan = Plan(TOY, linear(0.5), rounds=2)
    assert plan.coding == "shortest" and replace(plan, coding="packed").coding == "packed"
    message = "no coding 'pack'; did you mean 'packed'? (there are shortest, packed)"
    with pytest.raises(MPFLError, match=re.escape(message)):
        replace(plan, coding="pack")


def test_an_experiment_hands_its_coding_to_the_plan(quick):
    from mpfl.runs.experiment import changes, config_of
    from mpfl.runs.workbench import Workbench

    assert "coding" not in changes(config_of(quick()))
    assert Workbench(quick(coding="packed")).plan.coding == "packed"


# --- how w0 travels --------------------------------------------------------------------------


def test_a_random_w0_travels_as_its_seed():
    state = method(PLAN).init(begin(WIDE, seed=7))
    message = start_message(state, WIDE)
    assert wire.kind_of(message) is wire.Kind.SEED and len(message) == 22
    assert same(joiner(WIDE, initialise(WIDE))(message), draw_weights(WIDE, 7))


def test_any_other_w0_travels_as_weights():
    w0 = draw_weights(WIDE, 3)
    message = start_message(method().init(Start(w0)), WIDE)
    assert wire.kind_of(message) is wire.Kind.WEIGHTS
    assert len(message) > 4 * sum(array.size for array in w0.values())
    assert same(joiner(WIDE, initialise(TOY))(message), w0)
