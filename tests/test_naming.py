"""Two values of one name are two experiments; one value is one, wherever it is written."""

import json
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pytest

from mpfl.analysis.privacy import debiased, randomised_response
from mpfl.nets.settings import Settings
from mpfl.prune import SCORES
from mpfl.runs.experiment import Experiment, config_of, identity
from mpfl.runs.methods import METHODS
from mpfl.runs.naming import describe
from mpfl.types import MPFLError
from mpfl.vote import RULES, LayerRule, share


def score(power):
    def mine(update, layer, rng):
        return abs(update.weights[layer.weight]).reshape(layer.filters, -1).sum(axis=1) ** power

    return mine


def other():
    def mine(update, layer, rng):
        return -abs(update.weights[layer.weight]).reshape(layer.filters, -1).sum(axis=1)

    return mine


def rule(strict):
    if strict:

        @dataclass(frozen=True)
        class mine(LayerRule):
            tau: float = 0.5

            def __call__(self, tally):
                return tally.fraction > self.tau

    else:

        @dataclass(frozen=True)
        class mine(LayerRule):  # type: ignore[no-redef]
            tau: float = 0.5

            def __call__(self, tally):
                return tally.fraction >= self.tau

    mine.__qualname__ = "mine"
    return mine


def names(*values, field):
    return {identity(Experiment(**{field: value})) for value in values}


def test_two_functions_of_one_name_are_two_experiments():
    assert len(names(score(1), score(2), other(), field="score")) == 3
    assert len(names(score(1), score(1), field="score")) == 1


factor, layout = 2.0, object()  # nobody could tell this object from another run's


def test_what_a_function_reads_counts_but_no_global_with_an_attributes_name(monkeypatch):
    def scaled(update, layer, rng):
        return factor * update.layout

    def doubled(update, layer, rng):
        return [factor * each for each in update.weights]

    before = describe(scaled), describe(doubled)
    monkeypatch.setitem(globals(), "factor", 3.0)
    assert describe(scaled) != before[0] and describe(doubled) != before[1]


def test_two_classes_of_one_name_are_two_experiments():
    assert len(names(rule(True)(), rule(False)(), rule(True)(0.7), field="vote")) == 3
    assert len(names(rule(True)(), rule(True)(), field="vote")) == 1


def test_a_readers_rule_inside_one_of_ours_counts_too():
    ours = [debiased(rule(strict)(), 2.0) for strict in (True, False)]
    assert describe(ours[0]) != describe(ours[1])


def test_arguments_that_are_bound_count():
    def scaled(update, layer, rng, factor):
        return factor * update.weights[layer.weight].reshape(layer.filters, -1).sum(axis=1)

    assert len(names(partial(scaled, factor=1), partial(scaled, factor=2), field="score")) == 2


def test_what_is_ours_is_called_by_its_name_alone():
    for value in (*SCORES.values(), share(0.5)):
        assert "@" not in describe(value)
    assert set(map(describe, SCORES.values())) == set(SCORES)
    assert "share" in RULES


def test_a_class_without_fields_is_told_apart_by_its_code():
    class half:
        def __call__(self, round_, rounds):
            return 0.5

    class third:
        def __call__(self, round_, rounds):
            return 0.3

    third.__qualname__ = half.__qualname__
    third.__name__ = "half"
    assert len(names(half(), third(), field="schedule")) == 2


def test_a_value_that_cannot_say_what_it_is_is_refused():
    held = object()

    def schedule(round_, rounds):
        return 0.5 if held else 0.3

    with pytest.raises(MPFLError, match="cannot be told from another run's"):
        identity(Experiment(schedule=schedule))


FACTOR = 1.0


def by_a_global(update, layer, rng):
    return FACTOR * update.weights[layer.weight].reshape(layer.filters, -1).sum(axis=1)


def test_what_a_function_reads_of_its_module_counts(monkeypatch):
    one = describe(by_a_global)
    monkeypatch.setitem(globals(), "FACTOR", -1.0)
    assert describe(by_a_global) != one


def test_parts_of_a_class_that_are_no_fields_count():
    def rule(attribute, share):
        class mine(LayerRule):
            exact = attribute

            @property
            def limit(self):
                return share

            def __call__(self, tally):
                return tally.fraction >= self.limit

        return mine()

    rules = [rule(True, 0.5), rule(False, 0.5), rule(True, 0.6)]
    assert len(names(*rules, field="vote")) == 3


def test_a_class_as_a_model_is_told_apart_by_its_code():
    class Net:
        def __init__(self, classes):
            self.size = 3

    class Other:
        def __init__(self, classes):
            self.size = 4

    Other.__qualname__, Other.__name__ = Net.__qualname__, "Net"
    assert len(names(Net, Other, field="model")) == 2


def test_two_methods_of_one_name_are_two_experiments():
    ours = METHODS["mpfl"]
    made = [
        ours,
        replace(ours, votes=False),
        replace(ours, trainers="pooled"),
        replace(ours, build=METHODS["lottery"].build),
    ]
    assert len(names(*made, field="method")) == 4
    assert describe(ours) == "mpfl"


def test_a_rule_that_calls_its_base_has_a_name():
    class mine(share):
        def __call__(self, tally):
            return ~super().__call__(tally)

    assert describe(mine(0.5)) == describe(mine(0.5)) != describe(mine(0.6))


def test_what_a_function_closes_over_counts():
    def calling(inner):
        def outer(update, layer, rng):
            return inner(update.weights[layer.weight])

        return outer

    def inner_a(weights):
        return weights.sum(axis=(1, 2, 3))

    def inner_b(weights):
        return -weights.sum(axis=(1, 2, 3))

    inner_b.__qualname__ = inner_a.__qualname__
    assert len(names(calling(inner_a), calling(inner_b), field="score")) == 2
    with pytest.raises(MPFLError, match="cannot be told from another run's"):
        describe(calling(object()))


def test_a_long_array_counts_to_its_end():
    @dataclass(frozen=True)
    class table:
        values: np.ndarray

        def __call__(self, round_, rounds):
            return float(self.values[round_])

    tables = [np.zeros(5000), np.zeros(5000)]
    tables[1][2500] = 0.5
    assert len(names(*map(table, tables), field="schedule")) == 2


def test_a_number_of_numpy_is_the_same_experiment():
    half = np.float64(0.5)
    for ours, theirs in (
        ({"vote": share(0.5)}, {"vote": share(half)}),
        ({"vote": debiased(share(0.5), 2.0)}, {"vote": debiased(share(half), np.float64(2))}),
        ({"width": 0.5}, {"width": half}),
        ({"local": Settings(lr=0.5)}, {"local": Settings(lr=half)}),
    ):
        if isinstance(ours.get("vote"), debiased):
            ours |= {"fault": randomised_response(2.0), "noisy_nodes": 10}
        one, numpys = Experiment(**ours), Experiment(**(ours | theirs))
        assert one == numpys and identity(one) == identity(numpys)
        assert json.dumps(config_of(one)) == json.dumps(config_of(numpys))
