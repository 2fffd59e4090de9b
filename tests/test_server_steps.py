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
from mpfl.runs.recipes import recipe
from mpfl.runs.runner import run as run_experiment
from mpfl.runs.text import changed
from mpfl.types import MPFLError

SHORT = ("images=300", "rounds=1", "central_epochs=1")
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


def test_with_a_rate_of_one_and_no_momentum_it_is_averaging_but_for_rounding():
    plain = momentum_step(["w"], rate=1.0, momentum=0.0)
    for mean, stepped_ in zip(means(np.float32), stepped(plain, np.float32), strict=True):
        np.testing.assert_allclose(stepped_, mean["w"], atol=1e-6)


def test_a_tensor_without_an_axis_stays_one():
    for make in (
        lambda names: momentum_step(names, rate=1.0, momentum=0.5),
        lambda names: adam_step(names, rate=lambda _: 0.5, tau=0.0),
    ):
        step = make(["w"])
        weights, kept = step({"w": np.array(1, np.float32)}, {"w": np.array(2, np.float32)}, {}, 1)
        weights, kept = step(weights, {"w": np.asarray(weights["w"] + 1)}, kept, 2)
        assert isinstance(weights["w"], np.ndarray) and weights["w"].shape == ()
        assert weights["w"] == pytest.approx(3.5 if len(kept) == 1 else 2.0)


@pytest.mark.parametrize(
    "way", ["by_average_with_momentum(rate=1e300)", "by_average_with_adam(1e39)"]
)
def test_a_step_that_overflows_in_the_last_round_is_refused(tmp_path, way, recwarn):
    e = changed(recipe("digits", "toy"), [*SHORT, "federated_rounds=1", f"federated={way}"])
    with pytest.raises(MPFLError, match=r"round 1: the server's step leaves .* with NaN or infin"):
        run_experiment(e, tmp_path / "run")
    assert not (tmp_path / "run" / "summary.json").exists() and not list(recwarn)


@pytest.mark.parametrize("way", ["by_average_with_momentum()", "by_average_with_adam()"])
def test_cut_off_after_any_round_a_run_ends_the_same(tmp_path, way):
    e = changed(recipe("digits", "toy"), [*SHORT, "federated_rounds=3", f"federated={way}"])
    whole = run_experiment(e, tmp_path / "whole")

    def stop(progress):
        if progress.phase.startswith("federated") and progress.done > progress.total * 0.7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_experiment(e, tmp_path / "cut", watch=stop)
    again = run_experiment(e, tmp_path / "cut", resume=True)
    assert again["accuracy_federated"] == whole["accuracy_federated"]
    one, other = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "cut"))
    assert one == other


@pytest.mark.parametrize("weights", [{}, {"w": np.array([1, 2])}])
def test_a_tensor_that_cannot_be_stepped_is_refused_by_name(weights):
    with pytest.raises(MPFLError, match="trained names 'w', which is no tensor of floats"):
        momentum_step(["w"], rate=1.0, momentum=0.9)(weights, weights, {}, 1)


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
        (lambda: momentum_step([], rate=1, momentum=0)({}, {}, {}, 0), "round is 0; give at least"),
    ],
)
def test_bad_settings_are_refused(make, message, types_unchecked):
    with pytest.raises(MPFLError, match=message):
        make()
