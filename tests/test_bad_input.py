"""What a command refuses: in one line that says what to do, and as if it had never been called."""

from __future__ import annotations

import json
import re
import resource
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mpfl.__main__ import main
from mpfl.runs.recipes import recipe
from mpfl.runs.workbench import Workbench

RUN = "run digits --budget toy --workers 1 --out new"
SET = f"{RUN} --set images=80 --set nodes=2 --set"
REPRODUCE = "reproduce digits --results results --runs runs"

# One row a kind: the words, apart by blanks, and what the line says.
BAD = {
    # names
    "run [bold]digits[/bold]": r"no recipe '\[bold\]digits\[/bold\]'; did you mean 'digits-lth'",
    "run [/]": r"no recipe '\[/\]'; did you mean",
    "run DIGITS": "did you mean 'digits'",
    "run Digits-FedAvg": "did you mean 'digits-fedavg'",
    f"{RUN} --budget TOY": "did you mean 'toy'",
    f"{SET} Vote=share(0.5)": "did you mean 'vote'",
    f"{SET} vote=SHARE(0.5)": "did you mean 'share'",
    f"{SET} method=FEDAVG": "did you mean 'fedavg'",
    f"{SET} model=DIGITS-CNN": "did you mean 'digits-cnn'",
    f"{SET} dataset=Digits": "did you mean 'digits'",
    f"{SET} [red]width=1": r"no field '\[red\]width'",
    "data DIGITS": "did you mean 'digits'",
    f"{SET} vote=share(tau=0.5,tau=0.6)": "share: an argument is given twice",
    f"{SET} recipe=../../elsewhere": "recipe is '../../elsewhere'; give a name that a file",
    f"{SET} budget=a/b": "budget is 'a/b'; give a name",
    f"{SET} recipe=": "recipe is ''; give a name",
    f"{SET} vote=weighted((1e308,1e308))": "and of a finite sum",
    "reproduce DIGITS --list": "did you mean 'digits'",
    "reproduce Verdicts --draw new.png": "did you mean 'verdicts'",
    # numbers
    f"{REPRODUCE} --check 0": "check is 0; give at least 1",
    f"{REPRODUCE} --check -1": "check is -1; give at least 1",
    f"{REPRODUCE} --check x": "invalid int value: 'x'",
    f"{REPRODUCE} --check 1": "no run of 'digits' is recorded in results",
    f"{REPRODUCE} --check 1 --seed -1": "seed is -1",
    f"{REPRODUCE} --hours nan": "hours is nan",
    f"{REPRODUCE} --hours -1": "hours is -1",
    f"{REPRODUCE} --workers 0": "workers is 0",
    f"{RUN} --workers 0": "workers is 0",
    f"{RUN} --workers -1": "workers is -1",
    f"{RUN} --seed -1": "seed is -1",
    f"{RUN} --seed 1e3": "invalid int value: '1e3'",
    f"{RUN} --seed {2**64}": r"give less than 2\*\*64",
    f"{SET} seed={2**70}": r"give less than 2\*\*64",
    f"{SET} width=1e6": "memory is too small.*choose a smaller width",
    f"{SET} width=nan": "cannot be read as float",
    f"{SET} width=inf": "cannot be read as float",
    f"{SET} width=-1": "give a positive number",
    f"{SET} pixels=100000": "memory is too small.*choose a smaller width",
    f"{SET} pixels=0": "pixels is 0",
    f"{SET} nodes=0": "nodes is 0",
    f"{SET} nodes=1e9": "cannot be read as int",
    f"{SET} nodes=1000000": "80 images cannot fill 1000000 nodes",
    f"{RUN} --set images=1439": "images is 1439, but 'digits' has 1438 training images",
    f"{SET} data_noise=first_classes(11)": "count is 11, but there are 10 classes; give fewer",
    f"{SET} schedule=geometric(0.1,warmup=6)": "warmup is 6 rounds, but the run has 5",
    f"{SET} federated_steps=2": "no node has more than 1 in a pass over its 40 images, 64 at a",
    f"{SET} images=-5": "-5 images cannot fill",
    f"{SET} validation=2": "validation is 2",
    f"{SET} local.lr=-1": "give a positive number",
    f"{SET} local.batch=0": "batch is 0",
    f"{SET} quota=power(400)": "exponent is 400, too much for a layer of 64 filters",
    f"{SET} quota=power(1e308)": r"exponent is 1e\+308, too much",
    f"{SET} quota=power(-1)": "exponent is -1; give 0 or more",
    f"{SET} vote=share(2)": "at most 1",
    f"{SET} vote=share(0.5": "write it as a call",
    f"{SET} schedule=geometric(2)": "is no share of the filters",
    f"{SET} partition=dirichlet(0)": "is not a positive number",
    # files
    "run digits --budget toy --out ": "argument --out: is empty; is a variable of the shell",
    "compare ": "argument RUN: is empty",
    "compare a\nb": r"mpfl: a\\nb: no such run",
    "compare \x1b[31mred": r"mpfl: \\x1b\[31mred: no such run",
    "compare text a\nb --figures": r"unrecognized arguments: --figures",
    f"{REPRODUCE} --budget toy --results text": "text: cannot be written to; choose another folder",
    f"{REPRODUCE} --budget toy --runs text/a": "text/a: cannot be written to",
    "data cifar10 --from /dev/null": "/dev/null is neither a file nor a folder",
    f"{SET} w0=nothing": "no file 'nothing'",
    f"{SET} w0=.": "no file '.'",
    f"{SET} w0=text": "is no safetensors file",
    f"{SET} w0=nan": "'features.0.weight' in 'nan' is not finite",
    f"{SET} w0=large": "'features.0.weight' in 'large' is not finite",
    f"{SET} w0=float8": "float8.*save them as float32",
    "run digits --budget toy --out text": "text: is a file",
    "data digits --from nothing": "nothing does not exist",
    "data digits --from text": "come with scikit-learn; leave --from out",
    "data cifar10 --from nothing": "nothing does not exist",
    "compare nothing": "nothing: no such run, seen from",
    "compare text": "text: damaged",
    "compare nan": "nan: damaged",
    "record .": "no config.json",
    "record nothing --to results": "nothing: no such run",
    "export nothing --onnx new": "nothing: no such run",
    "export . --onnx new": "no config.json",
}


@pytest.fixture(scope="module")
def w0() -> dict[str, torch.Tensor]:
    weights = Workbench(recipe("digits", "toy"), Path("data")).start.w0
    return {name: torch.tensor(array) for name, array in weights.items()}


@pytest.fixture
def little_memory() -> Iterator[None]:
    """Whatever the machine has, it is less than a bad width asks for."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (64 * 2**30, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def content(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*"))
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in files}


@pytest.mark.parametrize("words", BAD)
@pytest.mark.usefixtures("little_memory")
def test_a_bad_value_is_one_line_and_changes_nothing(
    words: str,
    w0: dict[str, torch.Tensor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text").write_text(json.dumps({"kept": "as it was"})[:-1])
    first = next(iter(w0))
    save_file({**w0, first: w0[first] * np.nan}, "nan")
    save_file({**w0, first: w0[first].double() * 1e300}, "large")
    save_file({name: each.to(torch.float8_e4m3fn) for name, each in w0.items()}, "float8")
    before = content(tmp_path)
    try:
        status: object = main(words.split(" "))
    except SystemExit as stopped:
        status = stopped.code
    out, err = capsys.readouterr()
    assert (status, out) == (2, ""), err
    assert re.fullmatch(r"mpfl: [^\n]+\n", err), err
    assert re.search(BAD[words], err), err
    assert content(tmp_path) == before
