"""What a run sends is known before it: equal, byte for byte, to what runs have sent."""

import dataclasses
import math
from functools import cache
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from federation import drift
from hypothesis import given
from hypothesis import strategies as st
from toys import TOY, chain, draw_weights, random_mask

from mpfl import masks, wire
from mpfl.algorithm import Start
from mpfl.allocate import even, of_what_is_left, over_network, power
from mpfl.analysis.ledger import Bill, Way, bill
from mpfl.baselines.controls import lottery
from mpfl.baselines.fedavg import fedavg
from mpfl.baselines.pruning_fl import pruning_fl
from mpfl.data.partition import iid
from mpfl.evidence.cells import Cell
from mpfl.evidence.tables import TABLES, cells_of
from mpfl.filters import Layout, apply
from mpfl.nets.networks import blueprint, build
from mpfl.nets.start import initial_weights
from mpfl.node import Plan
from mpfl.runs.finishes import by_average
from mpfl.runs.folder import load_tensors, save_weights
from mpfl.runs.record import bits_of, read_run
from mpfl.runs.runner import run
from mpfl.runs.workbench import Workbench
from mpfl.schedules import arithmetic, geometric, linear, one_shot
from mpfl.seeds import rng_for
from mpfl.server import masked_pruning
from mpfl.simulation import simulate
from mpfl.types import MPFLError
from mpfl.wire import encode_consensus

RESULTS = Path(__file__).parent.parent / "data" / "results"
IMAGES = {"cifar10": 50_000, "imagenet100-64": 50_000}
CLASSES = {"cifar10": 10, "imagenet100-64": 100}
WAYS = get_args(Way)
OURS = [way for way in WAYS if way != "one-bit"]
WIDE = Plan(chain([16, 12, 10]), linear(0.6), rounds=4)


@cache
def network(model: str, classes: int, width: float = 1.0) -> Layout:
    return blueprint(model, classes, width=width)


def known(cell: Cell) -> bool:
    """Whether the bytes of a recorded run follow from its configuration."""
    e = cell.experiment
    plain = (
        e.data_noise is None
        and e.fault is None
        and e.images is None
        and e.partition == iid()
        and e.dataset in IMAGES
    )
    return e.method.wire and cell.keeps_its_counts and plain


CELLS = {
    cell.file: cell
    for table in TABLES
    for cell in cells_of(table, "laptop")
    if (RESULTS / cell.file).exists() and known(cell)
}


def finish_of(e):
    """What the bill must know of a final training that sends no weights."""
    if isinstance(e.federated, by_average):
        return {}
    with torch.device("meta"):
        module = build(e.model, CLASSES[e.dataset], width=e.width)
    voted = [name for name, _ in module.named_parameters(remove_duplicate=False)]
    bits = getattr(e.federated, "bits", 1)
    lengths = e.federated.per if bits == 1 else None
    return {"voted": voted, "every": e.federated.every, "bits": bits, "lengths": lengths}


# --- what was sent ---------------------------------------------------------------------------


@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_a_recorded_run_sent_what_the_ledger_says(cell):
    e, sent = cell.experiment, read_run(RESULTS / cell.file)
    layout = network(e.model, CLASSES[e.dataset], e.width)
    last = None
    if sent.rounds:
        texts = sent.rounds[-1]["mask"]
        last = {layer.name: bits_of(texts[layer.name], layer.filters) for layer in layout.layers}
    found = bill(
        e.method.name,
        Plan(layout, e.schedule, e.rounds, e.quota, e.coding),
        [IMAGES[e.dataset] // e.nodes] * e.nodes,
        w0="seed" if e.w0 == "random" else "weights",
        w0_bits=e.w0_bits,
        final_rounds=e.federated_rounds,
        mask=last,
        **finish_of(e),
    )
    assert dataclasses.asdict(found) == sent.summary["bytes"]
    assert found.rounds == sent.bytes_rounds
    assert found.final == sent.bytes_final
    assert found.total == sent.bytes_all


def test_every_method_is_among_the_recorded_runs():
    assert {cell.experiment.method.name for cell in CELLS.values()} == set(OURS)
    assert {cell.experiment.w0 == "random" for cell in CELLS.values()} == {True, False}


@pytest.mark.parametrize("w0", ["seed", "weights", "rounded"])
@pytest.mark.parametrize("way", OURS)
def test_a_run_on_digits_sends_what_the_ledger_says(quick, tmp_path, way, w0):
    changes = {"nodes": 3, "central_epochs": 0}
    how = {"w0": "seed"}
    if w0 != "seed":
        how = {"w0": "weights", "w0_bits": 4 if w0 == "rounded" else None}
        changes["w0_bits"] = how["w0_bits"]
        changes["w0"] = str(tmp_path / "w0.safetensors")
        save_weights(tmp_path / "w0.safetensors", initial_weights(build("digits-cnn", 10), 0))
        changes["width"] = 1.0
    bench = Workbench(quick(way, **changes))
    sent = run(bench.experiment, tmp_path / "run")["bytes"]
    left = load_tensors(tmp_path / "run" / "mask.safetensors")
    samples = [len(shard) for shard in bench.parties.nodes]
    for mask in (None, left):
        found = bill(way, bench.plan, samples, **how, final_rounds=2, mask=mask)
        assert dataclasses.asdict(found) == sent


# Images of one digit, of two and of five: their number is in the header of every average.
DATA = [np.full(5, 1.0), np.full(80, 2.0), np.full(10_000, 0.5)]
PLANS = [
    WIDE,
    dataclasses.replace(WIDE, coding="packed"),
    dataclasses.replace(WIDE, quota=power(0.5)),
    dataclasses.replace(WIDE, schedule=geometric(0.1, warmup=1), quota=of_what_is_left()),
    Plan(TOY, one_shot(0.3), rounds=1),
    # The rule is asked for other counts than the nodes: for more at first, for fewer later.
    Plan(chain([16, 9]), one_shot(0.4), rounds=3, quota=even(required=arithmetic(0.25))),
    # Layers that are joined, and a mask of more than 127 bytes: its frame is a byte longer.
    Plan(chain([14, 20], blocks=[2, 1], skip=True, join=True), linear(0.7), rounds=3),
    Plan(chain([500, 700], norm=False), geometric(0.2), rounds=3),
]


@pytest.mark.parametrize("plan", PLANS, ids=range(len(PLANS)))
@pytest.mark.parametrize("way", ["mpfl", "lottery", "pruning-fl", "fedavg"])
def test_simulated_messages_are_as_long_as_the_ledger_says(plan, way):
    layout, train = plan.layout, drift(plan.layout)
    w0 = {name: np.asarray(array, np.float32) for name, array in draw_weights(layout).items()}
    algorithm = {
        "mpfl": lambda: masked_pruning(plan, lambda seed: w0, train),
        "lottery": lambda: lottery(plan, lambda seed: w0, seed=0),
        "pruning-fl": lambda: pruning_fl(plan, lambda seed: w0, train),
    }.get(way)
    logs, mask, begin, how = [], masks.full(layout), w0, {}
    if algorithm is not None:
        nodes = DATA if way != "lottery" else []
        logs = list(simulate(algorithm(), nodes, Start(w0, 0), plan.rounds, seed=0))
        mask, begin = logs[-1].state.mask, logs[-1].state.weights
    # How the last consensus, or the last average, reaches the nodes.
    if way == "mpfl":
        message = encode_consensus(mask, layout, plan.rounds + 1)
        how = {"start": lambda state: message, "join": lambda message: apply(w0, mask, layout)}
    if way == "pruning-fl":
        small = wire.encode_weights(begin, layout, 0, mask=mask)
        how = {"start": lambda state: small, "join": lambda message: begin}
    final = fedavg(layout, lambda seed: w0, train, mask=mask, **how)
    last = list(simulate(final, DATA, Start(apply(begin, mask, layout), 0), 2, seed=0))
    found = bill(way, plan, [len(data) for data in DATA], final_rounds=2, mask=mask)
    assert found == Bill(
        *(sum(getattr(log, name) for log in logs) for name in LOGGED),
        *(sum(getattr(log, name) for log in last) for name in LOGGED),
    )


LOGGED = ("start_bytes", "bytes_down", "bytes_up")


@given(
    shapes=st.dictionaries(
        st.text('ab.1"é', min_size=1),
        st.lists(st.integers(1, 12), max_size=4).map(tuple),
        max_size=4,
    ),
    samples=st.none() | st.integers(0, 10**12),
)
def test_the_length_of_weights_is_that_of_the_codec(shapes, samples):
    zeros = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    message = wire.encode_weights(zeros, Layout((), shapes), 1, samples=samples)
    assert wire.weights_length(shapes, samples) == len(message)


@given(
    shapes=st.dictionaries(
        st.text('ab.1"é', min_size=1),
        st.lists(st.integers(0, 6), max_size=4).map(tuple),
        max_size=4,
    ),
    bits=st.integers(2, 8),
)
def test_the_length_of_a_rounded_w0_is_that_of_the_codec(shapes, bits):
    layout = Layout((), shapes)
    ones = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
    rounded = wire.round_weights(ones, layout, bits)
    message = wire.encode_rounded(rounded, layout, bits=bits)
    assert wire.rounded_length(shapes, bits=bits) == len(message)


# --- what it says of runs that nobody made ----------------------------------------------------


def test_one_bit_by_hand():
    numbers = sum(map(math.prod, TOY.shapes.values()))
    assert numbers == 16 + 5 * 4 + 24 + 3 + 30 + 5 + 2 + 1
    plan = Plan(TOY, one_shot(0.3), rounds=1)
    message = 14 + 13  # 101 bits are 13 bytes, in a frame of 14
    sent = bill("one-bit", plan, [7, 7], final_rounds=3)
    # Two nodes; round 1 asks with an empty message, of 14 bytes.
    assert sent == Bill(0, 0, 0, 2 * 22, 2 * (14 + 2 * message), 2 * 3 * message)


@pytest.mark.parametrize("way", WAYS)
def test_without_a_final_training_nothing_is_sent_for_it(way):
    found = bill(way, WIDE, [9, 9])
    assert found.final == 0
    assert found.start == (44 if way in ("mpfl", "pruning-fl") else 0)
    assert (found.rounds > 0) == (way in ("mpfl", "pruning-fl"))
    assert found.total == found.start + found.rounds


def test_where_layers_are_joined_the_ledger_needs_the_mask():
    plan = Plan(network("resnet18", 10, 0.25), one_shot(0.5), rounds=1)
    least = bill("mpfl", plan, [9], final_rounds=5)
    drawn = [masks.drawn(plan.layout, 0.5, rng_for(0, "ledger", i)) for i in range(3)]
    found = [bill("mpfl", plan, [9], final_rounds=5, mask=mask) for mask in drawn]
    assert len({each.final_up for each in found}) == 3
    assert all(each.final_up > least.final_up for each in found)
    assert {(each.start, each.rounds, each.final_start) for each in found} == {
        (least.start, least.rounds, least.final_start)
    }


@pytest.mark.parametrize(
    ("model", "classes"), [("torchvision-vgg11", 10), ("torchvision-resnet18", 100)]
)
def test_the_published_networks_are_billed_without_making_their_weights(model, classes):
    layout = network(model, classes)
    plan = Plan(layout, geometric(0.1, warmup=1), rounds=10)
    dense = 4 * sum(map(math.prod, layout.shapes.values()))
    found = {way: bill(way, plan, [5000] * 10, final_rounds=10) for way in WAYS}
    assert 100 * dense < found["fedavg"].final_up < 100.1 * dense
    assert found["mpfl"].rounds < found["one-bit"].final < found["mpfl"].final
    assert found["mpfl"].final - found["mpfl"].final_start == (
        found["lottery"].final - found["lottery"].final_start
    )


# --- what it refuses --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"way": "lth"}, "(there are mpfl, lottery, w0-norms, iterated-norms, "),
        ({"w0": "pickle"}, "no w0 'pickle'; did you mean 'seed'? (there are seed, weights)"),
        ({"samples": []}, "samples names no node; give the number of images of each"),
        ({"final_rounds": -1}, "final_rounds is -1; give at least 0"),
        ({"bits": 4}, "bits is 4, but no tensor is voted on; name them in voted"),
        (
            {"bits": 9, "voted": [WIDE.layout.layers[0].weight], "final_rounds": 1},
            "bits is 9; give 2 to 8",
        ),
        (
            {"plan": dataclasses.replace(WIDE, quota=over_network())},
            "quota: the votes say how many filters each layer keeps",
        ),
        (
            {"mask": masks.full(WIDE.layout)},
            "mask keeps 16 filters of layer 'layer0', but the plan leaves 6",
        ),
        (
            {"mask": random_mask(TOY, rng_for(0, "other"))},
            "was it made for another model?",
        ),
    ],
)
def test_nonsense_is_refused(types_unchecked, changes, message):
    asked = {"way": "mpfl", "plan": WIDE, "samples": [9, 9]} | changes
    with pytest.raises(MPFLError) as error:
        bill(**asked)
    assert message in str(error.value)
