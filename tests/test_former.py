"""Records of any age are read, in today's words, and keep their names."""

import json
from pathlib import Path

import pytest

from mpfl.allocate import even, of_what_is_left, over_network, power
from mpfl.analysis.faults import random_mask
from mpfl.data.noise import gaussian
from mpfl.evidence.tables import cells_of
from mpfl.runs.experiment import Experiment, changes, config_of, identity, slug_of
from mpfl.runs.former import current, original
from mpfl.runs.methods import LOTTERY, METHODS
from mpfl.runs.recipes import BUDGETS, RECIPES, recipe
from mpfl.runs.record import read_run
from mpfl.runs.text import changed
from mpfl.schedules import arithmetic

RECORDED = sorted((Path(__file__).parent.parent / "data" / "results").glob("*.json"))


def test_there_are_records() -> None:
    assert len(RECORDED) >= 121


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_a_recorded_run_keeps_its_name(path: Path) -> None:
    raw, run = json.loads(path.read_text()), read_run(path)
    assert slug_of(run.config) == path.stem
    assert slug_of(run.config).endswith(raw["summary"]["identity"])
    assert changes(raw["config"]) == changes(run.config)
    assert run.method in METHODS.values()
    known = config_of(Experiment()).keys()
    assert run.config.keys() <= known, "a field that nobody knows any more"


def test_every_record_is_of_a_cell_or_made_by_its_command() -> None:
    """A cell's file is found by its experiment: so the evidence finds what was recorded."""
    files = {cell.file for cell in cells_of("all", "laptop")}
    assert {path.name for path in RECORDED} <= files


@pytest.mark.parametrize("path", RECORDED[::10], ids=lambda path: path.stem)
def test_a_recorded_command_makes_the_same_experiment_today(path: Path) -> None:
    words = json.loads(path.read_text())["summary"]["provenance"]["command"]
    import shlex

    options = shlex.split(words)[4:]  # python -m mpfl run
    name, given = options[0], dict(zip(options[1::2], options[2::2], strict=True))
    sets = [
        value for key, value in zip(options[1::2], options[2::2], strict=True) if key == "--set"
    ]
    again = changed(recipe(name, given["--budget"], int(given["--seed"])), sets)
    assert again.slug == path.stem


VALUES = [
    {},
    {"quota": power(0.5)},
    {"quota": over_network(2)},
    {"quota": even(required=arithmetic(0.1, 1))},
    {"quota": of_what_is_left(required=arithmetic(0.1, 1))},
    {"quota": of_what_is_left()},
    {"fault": random_mask()},
    {"data_noise": gaussian(0.1)},
    {"method": LOTTERY, "recipe": "digits-lottery"},
]


@pytest.mark.parametrize("values", VALUES, ids=str)
def test_words_there_and_back(values: dict[str, object]) -> None:
    config = config_of(Experiment(**values))
    assert current(original(config)) == config
    assert changes(original(config)) == changes(config)


def test_a_noise_and_a_fault_can_go_together_now() -> None:
    both = Experiment(data_noise=gaussian(0.1), fault=random_mask())
    one = [Experiment(data_noise=gaussian(0.1)), Experiment(fault=random_mask())]
    assert len({identity(each) for each in (both, *one, Experiment())}) == 4


def test_no_two_recipes_share_a_name() -> None:
    slugs = [recipe(name, budget).slug for name in RECIPES for budget in BUDGETS]
    assert len(set(slugs)) == len(slugs)


def test_the_old_name_of_the_lottery_is_understood() -> None:
    assert recipe("digits-random-masks", "toy") == recipe("digits-lottery", "toy")
