"""A tiny model that is trained by steps which all take, and what such trainings have in common."""

import dataclasses

from federation import half, recorded, run
from toys import chain, same

from mpfl.analysis.ledger import bill
from mpfl.runs.checkpoint import load_checkpoint, save_checkpoint
from mpfl.runs.runner import run as run_experiment
from mpfl.runs.text import changed
from mpfl.runs.workbench import Workbench
from mpfl.sign_votes import Directions, statistics_due

NORMED = chain([8, 6, 5])  # with running means, and a counter
TRAINED = tuple(n for n in NORMED.shapes if n != "steps" and not n.endswith(".mean"))
HALF = half(NORMED)
ROUNDS = 6


def averages(round_):
    return statistics_due(round_, ROUNDS, 4)


def them(mask=HALF):
    return Directions(NORMED, mask, TRAINED)


def logs_of(algorithm, rounds=ROUNDS, **how):
    return run(algorithm, rounds=rounds, layout=NORMED, **how)


def check_that_it_goes_on_from_a_file(method, file):
    """Cut off after any round, it sends what a training would that was not, and ends alike."""
    whole, messages = recorded(method())
    logs = logs_of(whole)
    for log in logs[:-1]:
        save_checkpoint(file, log)
        later, rest = recorded(method())
        again = logs_of(later, resume=load_checkpoint(file, NORMED))
        assert rest == [message for message in messages if message[1] > log.round]
        assert same(*[dict(sorted(each[-1].state.weights.items())) for each in (again, logs)])


def short(way):
    """A final training of three rounds, by ``way``."""
    return [f"federated={way}", "federated_rounds=3", "federated_steps=2", "local.batch=16"]


def check_that_it_sends_what_its_bill_says(names, quick, way, folder, **how):
    """Of a short run by ``way``, for every method of ``names``."""
    for name in names:
        experiment = changed(quick(name, nodes=3, central_epochs=0), short(way))
        bench = Workbench(experiment)
        summary = run_experiment(experiment, folder / name)
        samples = [len(shard) for shard in bench.parties.nodes]
        told = bill(name, bench.plan, samples, final_rounds=3, voted=bench.trained, **how)
        assert dataclasses.asdict(told) == summary["bytes"]
