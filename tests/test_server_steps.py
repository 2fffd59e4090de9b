"""A server that steps by momentum or by Adam, beside torch's own optimisers."""

import numpy as np
import pytest
import torch
from federation import WIDE, drift, initialise, run
from toys import same

from mpfl.baselines.fedavg import fedavg
from mpfl.baselines.server_steps import adam_step, mean_step, momentum_step
from mpfl.filters import apply
from mpfl.runs.finishes import by_average_with_adam, by_average_with_momentum
from mpfl.types import MPFLError

ROUNDS = 12
HALF = {name: np.arange(size) % 2 == 0 for name, size in WIDE.sizes.items()}


def means(dtype=np.float64):
    rng = np.random.default_rng(5)
    rows = (rng.normal(size=(3, 4)).astype(dtype) for _ in range(ROUNDS))
    return [{"w": row, "n": rng.normal(size=2)} for row in rows]


def stepped(step, dtype=np.float64):
    weights, kept, way = {"w": np.ones((3, 4), dtype), "n": np.zeros(2)}, {}, []
    for round_, mean in enumerate(means(dtype), 1):
        weights, kept = step(weights, mean, kept, round_)
        np.testing.assert_array_equal(weights["n"], mean["n"])
        way.append(weights["w"])
    return way


def by_torch(optimiser, rates=None):
    w = torch.ones(3, 4, dtype=torch.float64, requires_grad=True)
    rule = optimiser([w])
    way = []
    for place, mean in enumerate(means()):
        if rates:
            rule.param_groups[0]["lr"] = rates[place]
        w.grad = w.detach() - torch.tensor(mean["w"])
        rule.step()
        way.append(w.detach().numpy().copy())
    return way


@pytest.mark.parametrize(("rate", "momentum"), [(1.0, 0.9), (0.3, 0.5), (2.0, 0.0)])
def test_momentum_is_that_of_torch(rate, momentum):
    way = stepped(momentum_step(["w"], rate=rate, momentum=momentum))
    theirs = by_torch(lambda w: torch.optim.SGD(w, lr=rate, momentum=momentum))
    np.testing.assert_allclose(way, theirs, rtol=1e-12)


@pytest.mark.parametrize("tau", [1e-8, 0.1])
def test_adam_is_that_of_torch_with_a_rate_that_falls(tau):
    rates = [0.1 / (1 + place) for place in range(ROUNDS)]
    way = stepped(adam_step(["w"], rate=lambda round_: rates[round_ - 1], tau=tau))
    theirs = by_torch(lambda w: torch.optim.Adam(w, betas=(0.9, 0.99), eps=tau), rates)
    np.testing.assert_allclose(way, theirs, rtol=1e-12)


def test_a_step_keeps_the_type_of_the_weights():
    for step in (
        momentum_step(["w"], rate=1.0, momentum=0.9),
        adam_step(["w"], rate=lambda _: 0.1, tau=0.001),
    ):
        assert {each.dtype for each in stepped(step, np.float32)} == {np.dtype(np.float32)}


def test_the_server_alone_remembers_and_what_is_pruned_stays_zero():
    trained = [layer.weight for layer in WIDE.layers]
    plain, bent = (
        run(fedavg(WIDE, initialise(WIDE), drift(WIDE), mask=HALF, server=server), rounds=4)
        for server in (mean_step, adam_step(trained, rate=lambda _: 0.1, tau=0.001))
    )
    assert [(log.bytes_up, log.bytes_down) for log in bent] == [
        (log.bytes_up, log.bytes_down) for log in plain
    ]
    weights = bent[-1].state.weights
    assert same(weights, apply(weights, HALF, WIDE))
    assert not any(np.array_equal(weights[n], plain[-1].state.weights[n]) for n in trained)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: by_average_with_momentum(rate=0), "rate is 0; give a positive number"),
        (lambda: by_average_with_momentum(rate=float("inf")), "rate is inf"),
        (lambda: by_average_with_momentum(momentum=1.0), "momentum is 1.0; give a number from 0"),
        (lambda: by_average_with_adam(rate=float("nan")), "rate is nan"),
        (lambda: by_average_with_adam(tau=-1.0), "tau is -1.0; give a number from 0"),
        (lambda: by_average_with_adam(falling="no"), "falling"),
        (lambda: adam_step([], rate=lambda _: 1, tau=0, memory=1), "memory is 1"),
    ],
)
def test_bad_settings_are_refused(make, message, types_unchecked):
    with pytest.raises(MPFLError, match=message):
        make()
