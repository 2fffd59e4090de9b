"""The command line as a user meets it: tables, one line an error, nothing half done."""

import dataclasses
import errno
import io
import os
import re
import resource
import signal
import ssl
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console
from toys import BY_HISTOGRAM

from mpfl.__main__ import main
from mpfl.allocate import QUOTAS, even, of_what_is_left, over_network, power
from mpfl.analysis.faults import FAULTS, colluding_veto, inverted_mask, random_mask
from mpfl.analysis.privacy import PRIVATE_VOTES, WRAPPERS, randomised_response
from mpfl.data.noise import (
    DATA_NOISES,
    blurred,
    first_classes,
    gaussian,
    label_noise,
    permuted_labels,
    shuffled_pixels,
)
from mpfl.data.partition import PARTITIONS, dirichlet, iid, shards
from mpfl.nets.settings import Settings
from mpfl.prune import SCORES
from mpfl.runs.experiment import Experiment, config_of, identity
from mpfl.runs.folder import read_json, read_lines
from mpfl.runs.methods import LOTTERY
from mpfl.runs.progress import Progress
from mpfl.runs.recipes import RECIPES, recipe
from mpfl.runs.record import read_run
from mpfl.runs.text import changed
from mpfl.schedules import SCHEDULES, arithmetic, cubic, geometric, linear, one_shot
from mpfl.show import live, terminal
from mpfl.show.one_line import REMEDIES, mended
from mpfl.types import MPFLError
from mpfl.vote import (
    RULES,
    most_votes,
    published_percentile,
    published_threshold,
    relaxed,
    share,
    weighted,
)

MPFL = [sys.executable, "-m", "mpfl"]
SMALL = {
    "images": 120,
    "nodes": 2,
    "rounds": 2,
    "epochs": 1,
    "width": 0.25,
    "central_epochs": 1,
    "federated_rounds": 1,
}


def digits(out, *words, **changes):
    """The words of a small run of digits."""
    settings = [f"--set={name}={value}" for name, value in (SMALL | changes).items()]
    return ["run", "digits", "--budget", "toy", "--out", str(out), *settings, *words]


def refused(capsys, *words):
    """The one line on standard error with which a command is refused."""
    try:
        status = main([str(word) for word in words])
    except SystemExit as stopped:
        status = stopped.code
    out, err = capsys.readouterr()
    assert status == 2
    assert out == ""
    assert err.startswith("mpfl: ") and err.endswith("\n") and err.count("\n") == 1, err
    return err


# --- run ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_first_command_a_reader_types(tmp_path):
    """Ends with a table within 20 s of processor time, all of python's start included."""
    folder = tmp_path / "runs" / "a"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [*MPFL, "run", "digits", "--budget", "toy", "--out", folder, "--workers", "1"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (done.returncode, done.stderr) == (0, "")
    assert after.ru_utime - before.ru_utime < 20
    summary = read_json(folder / "summary.json")
    for shown in (
        "digits, toy, seed 0",
        f"{summary['sparsity']:.3f}",
        f"{summary['parameters']:,} of {summary['parameters_dense']:,}",
        f"{100 * summary['accuracy_central']:.2f} %",
        f"{100 * summary['accuracy_federated']:.2f} %",
        f"run folder: {folder}\n",
    ):
        assert shown in done.stdout
    assert summary["accuracy_central"] > 0.9
    # Not how many workers: that changes nothing but the time.
    assert summary["provenance"]["command"] == "python -m mpfl run digits --budget toy --seed 0"
    assert summary["workers"] == 1
    assert all(len(line) <= 80 for line in done.stdout.splitlines() if "run folder" not in line)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["data", "digts"], "did you mean 'digits'?"),
        (["run", "digits", "--workers", "x"], "argument --workers: invalid int value: 'x'"),
    ],
)
def test_an_error_is_one_line_and_no_traceback(tmp_path, words, says):
    done = subprocess.run([*MPFL, *words], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr and done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


FULL = (
    "mpfl: no space left on device; free some space or raise its limit, or choose a place that "
    "has more\n"
)


@pytest.mark.parametrize(
    ("shell", "status", "says"),
    [
        ("list | true", 141, ""),
        ("data digits | true", 141, ""),
        ("data digits >/dev/full", 2, FULL),
        ("list >/dev/full", 2, FULL),
        ("data digits >&-", 0, ""),
        ("data digits --root naïve", 0, ""),
    ],
)
def test_where_the_output_goes_nowhere(shell, status, says):
    script = f'PYTHONIOENCODING=ascii "{sys.executable}" -m mpfl {shell}; exit ${{PIPESTATUS[0]}}'
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (status, says)


GONE = "mpfl: the current folder is gone; change to one that is there\n"


@pytest.mark.parametrize(
    ("shell", "status", "out", "err"),
    [
        ("mkdir x; cd x; rmdir ../x; $MPFL list", 2, "", GONE),
        ("mkdir x; cd x; rmdir ../x; $MPFL run digits --budget toy --out /tmp/x", 2, "", GONE),
        ("mkdir x; cd x; rmdir ../x; $MPFL.flower status r", 2, "", GONE),
        ("$MPFL compare x 2>&-", 2, "", ""),
        ("$MPFL comparr x 2>&-", 2, "", ""),
        ("$MPFL.flower status x 2>&-", 2, "", ""),
        ("COLUMNS=0 $MPFL list | head -1", 0, "recipes:\n", ""),
        (
            "ulimit -v 600000; $MPFL run digits --budget toy --out r",
            2,
            "",
            "memory is too small to load it; raise its limit (ulimit -v)\n",
        ),
    ],
)
def test_whatever_the_shell_has_done(shell, status, out, err, tmp_path):
    command = f"{sys.executable} -m mpfl"
    script = shell.replace("$MPFL", command)
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (status, out), done.stderr
    assert done.stderr.endswith(err) and done.stderr.count("\n") == bool(err)


def test_a_figure_and_a_table_whatever_the_shell_shows_them_with(finished, tmp_path):
    environment = os.environ | {"MPLBACKEND": "module://nowhere", "COLUMNS": "0"}
    words = [*MPFL, "compare", str(finished), "--figure", "a.png"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert "sparsity" in done.stdout and (tmp_path / "a.png").exists()


def test_no_folder_stays_of_what_could_not_be_written(finished, tmp_path, monkeypatch, capsys):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    assert "does not hold data_batch_1" in refused(
        capsys, "data", "cifar10", "--from", "empty", "--root", "new/data"
    )
    monkeypatch.setattr(os, "fsync", full)
    assert "no space left" in refused(capsys, "record", finished, "--to", "kept/here")
    assert [path.name for path in Path().iterdir()] == ["empty"]


def test_what_the_shell_closed_gives_its_number_to_no_file(tmp_path):
    code = "import os; from mpfl.types import require_surroundings as go; go(); "
    code += f"assert os.open({str(tmp_path / 'a')!r}, os.O_CREAT) > 2"
    for closed in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"):
        script = f'{sys.executable} -c "{code}" {closed}'
        assert subprocess.run(["bash", "-c", script]).returncode == 0


@pytest.mark.parametrize(
    ("out", "says"),
    [
        ("n" * 300, "file name too long; choose a shorter name"),
        ("file/run", "not a directory; choose another name, as a file stands where a folder is"),
    ],
)
def test_what_the_system_refuses_is_said_with_a_remedy(out, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    assert main(digits(out)) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"mpfl: {out}") and f": {says}" in error and error.count("\n") == 1


def test_every_remedy_is_of_an_error_that_there_is():
    assert mended(PermissionError(errno.EACCES, "Permission denied", "/a")) == (
        "/a: permission denied; choose another place, or have its permissions changed"
    )
    assert mended(OSError(errno.ENOSPC, "No space left", "a", None, "b")).startswith("b: no space")
    for names in REMEDIES:
        for name in names.split():
            code = getattr(errno, name)
            assert mended(OSError(code, os.strerror(code))).endswith(f"; {REMEDIES[names]}")
    assert mended(ssl.SSLError(errno.EPERM, "certificate")) == "certificate"
    assert mended(OSError("it ended too soon")) == "it ended too soon"
    assert mended(OSError(errno.EPIPE, "Broken pipe")) == "[Errno 32] Broken pipe"
    assert mended(MPFLError("a\nb")) == r"a\nb"


def test_a_run_without_out_goes_into_a_folder_of_its_own(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = digits("unused", "--seed", "3", **{"vote": "share(0.5)"})
    del words[words.index("--out") : words.index("--out") + 2]
    assert main(words) == 0
    changes = [word.removeprefix("--set=") for word in words if word.startswith("--set=")]
    made = changed(recipe("digits", "toy", 3), changes)
    folder = Path("runs") / f"digits-toy-{identity(made)}"
    assert read_json(folder / "config.json") == config_of(made)
    assert f"run folder: {folder}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["digit"], "no recipe 'digit'; did you mean 'digits'? (see python -m mpfl list)"),
        (["digits", "--budget", "labtop"], "no budget 'labtop'; did you mean 'laptop'?"),
        (["digits", "--set", "round=3"], "no field 'round'; did you mean 'rounds'?"),
        (["digits", "--set", "rounds"], "--set 'rounds': write it as field=value"),
        (["digits", "--set", "rounds=many"], "--set rounds=many: cannot be read as int"),
        (["digits", "--set", "nodes=0"], "nodes is 0; give at least 1"),
        (["digits", "--set", "schedule=one_shot(0.99)"], "ask for less than 0.9375"),
        (["digits", "--set", "model=vgg11-bn"], "choose another model or data set"),
        (["digits", "--set", "dataset=digts"], "did you mean 'digits'"),
        (
            ["digits", "--set", "quota=over_net()"],
            "no quota 'over_net'; did you mean 'over_network'?",
        ),
        (["digits", "--set", "method=mfpl"], "did you mean 'mpfl'? (see python -m mpfl list)"),
        (["digits", "--set", "local.optimiser=adm"], "there are sgd, adam"),
        (["digits", "--set", "w0=nowhere"], "no file 'nowhere'"),
        (["digits", "--seed", "-1"], "seed is -1; give at least 0"),
        (["digits", "--workers", "0"], "workers is 0; give at least 1"),
        (["digits", "--seed", "one"], "argument --seed: invalid int value: 'one'"),
        (["digits", "--bugdet", "toy"], "unrecognized arguments: --bugdet toy"),
        ([], "the following arguments are required: recipe; see python -m mpfl run --help"),
    ],
)
@pytest.mark.usefixtures("types_unchecked")
def test_what_cannot_run_is_refused_in_one_line(tmp_path, capsys, words, says):
    assert says in refused(capsys, "run", *words, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_no_command_and_an_unknown_one(capsys):
    assert "required: COMMAND" in refused(capsys)
    assert "'rnu'" in refused(capsys, "rnu")


def test_a_place_that_cannot_be_written_to(tmp_path, capsys):
    (tmp_path / "file").write_text("x")
    assert "choose another --out" in refused(capsys, *digits(tmp_path / "file"))
    assert "not a directory; choose another name" in refused(
        capsys, *digits(tmp_path / "file" / "run")
    )


def test_another_configuration_in_one_folder(finished, capsys):
    before = {path: path.stat().st_mtime_ns for path in finished.iterdir()}
    error = refused(capsys, *digits(finished, "--resume", rounds=3))
    assert f"{finished}: holds a run of another configuration" in error
    assert "choose another --out" in error
    assert {path: path.stat().st_mtime_ns for path in finished.iterdir()} == before


def test_a_folder_whose_name_looks_like_markup(tmp_path, capsys):
    folder = tmp_path / "a[red]b"
    assert main(digits(folder)) == 0
    assert f"run folder: {folder}\n" in capsys.readouterr().out
    assert (folder / "summary.json").exists()


@pytest.mark.slow
def test_ctrl_c_stops_in_one_line_and_resume_goes_on(tmp_path, capsys):
    folder, words = tmp_path / "run", digits(tmp_path / "run", federated_rounds=40)

    def allow_interrupts():  # a shell that runs the tests in the background turns them off
        signal.signal(signal.SIGINT, signal.default_int_handler)

    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([*MPFL, *words], **pipes, preexec_fn=allow_interrupts)
    log = folder / "federated.jsonl"
    while process.poll() is None and not log.exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130, "it ended before it could be stopped"
    assert err == "mpfl: stopped; add --resume to the same command to go on\n"
    first = len(read_lines(log))
    assert 1 <= first < 40 and not (folder / "summary.json").exists()

    assert "add --resume" in refused(capsys, *words)
    assert main([*words, "--resume"]) == 0
    assert [line["round"] for line in read_lines(log)] == list(range(1, 41))


# --- list --------------------------------------------------------------------------------


def test_list_names_everything_that_may_be_given(capsys):
    assert main(["list"]) == 0
    shown = capsys.readouterr().out
    lines = shown.splitlines()
    for name in RECIPES:
        assert f"  {name}" in lines
    assert "budgets: toy, laptop, paper" in lines
    for each in dataclasses.fields(Experiment):
        assert any(line.startswith(f"  {each.name} = ") for line in lines)
    assert "  score = l2" in lines and "  vote = most_votes(k=None)" in lines
    tables = (RULES, WRAPPERS, SCHEDULES, SCORES, PARTITIONS)
    for known in (*tables, DATA_NOISES, FAULTS, PRIVATE_VOTES):
        assert ", ".join(known) in shown


# --- compare -----------------------------------------------------------------------------


@pytest.fixture
def runs(finished):
    run = read_run(finished)
    long = {"recipe": "imagenet100-resnet18", "vote": "published_threshold(required=None)"}
    sent = dict.fromkeys(run.summary["bytes"], 123_456_789)
    huge = {"parameters": 11_227_812, "bytes": sent, "accuracy_central": None}
    return [run, replace(run, config={**run.config, **long}, summary={**run.summary, **huge})]


@pytest.mark.parametrize("columns", ["40", "80", "200"])
def test_compare_reads_the_same_at_any_width(runs, capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    terminal.print_comparison(runs)
    head, names, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["accuracy,", "trained", "bytes,", "both", "ways"]
    labels, numbers = rows[::2], rows[1::2]
    assert labels == [run.label for run in runs]
    assert {len(line) for line in (head, names, *numbers)} == {78}
    summary = runs[0].summary
    assert numbers[0].replace(" %", "").split()[:4] == [
        f"{summary['sparsity']:.3f}",
        f"{summary['parameters']:,}",
        f"{100 * summary['accuracy_central']:.2f}",
        f"{100 * summary['accuracy_federated']:.2f}",
    ]
    assert numbers[1].split()[1:3] == ["11,227,812", "-"]
    assert numbers[1].endswith("246.9 MB        370.4 MB")


def test_compare_shows_finished_runs(finished, capsys):
    assert main(["compare", str(finished), str(finished)]) == 0
    assert capsys.readouterr().out.count("digits, toy, most_votes(k=None), seed 0\n") == 2


def test_compare_says_in_what_runs_of_one_name_differ(runs, capsys):
    one = runs[0]
    others = [replace(one, config={**one.config, "units": u}) for u in ("heads", "heads,hidden")]
    terminal.print_comparison([one, *others])
    labels = capsys.readouterr().out.splitlines()[2::2]
    assert labels == [
        f"{one.label}, units=as usual",
        f"{one.label}, units=heads",
        f"{one.label}, units=heads,hidden",
    ]


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({}, "of the filters, removed"),
        ({"units": "heads"}, "of the units voted on, removed"),
        ({"model": "gru"}, "of the units voted on, removed"),
        ({"granularity": "weight"}, "of the weights voted on, removed"),
    ],
)
def test_a_summary_says_what_was_voted_on(runs, capsys, config, says):
    terminal.print_summary(replace(runs[0], config={**runs[0].config, **config}))
    assert says in " ".join(capsys.readouterr().out.split())


def test_compare_refuses_what_is_no_finished_run(finished, tmp_path, capsys):
    error = refused(capsys, "compare", finished, tmp_path / "nowhere")
    assert f"{tmp_path / 'nowhere'}: no such run" in error
    assert "is it a finished run folder?" in refused(capsys, "compare", tmp_path)
    assert "required: RUN" in refused(capsys, "compare")


def test_compare_draws_a_figure(finished, tmp_path, capsys):
    pytest.importorskip("mpfl.show.plots")
    path = tmp_path / "figure.png"
    assert main(["compare", str(finished), "--figure", str(path)]) == 0
    assert capsys.readouterr().out.endswith(f"figure: {path}\n")
    assert path.read_bytes().startswith(b"\x89PNG")
    for bad in ("figure", "figure.", ".png", "figure.xyz"):
        assert main(["compare", str(finished), "--figure", str(tmp_path / bad)]) == 2
        assert "let it end in one of" in capsys.readouterr().err
    (tmp_path / "folder.png").mkdir()
    assert main(["compare", str(finished), "--figure", str(tmp_path / "folder.png")]) == 2
    says = f"mpfl: {tmp_path / 'folder.png'}: is a directory; give a file\n"
    assert capsys.readouterr().err == says
    assert {each.name for each in tmp_path.iterdir()} == {"figure.png", "folder.png"}

    drawn = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))  # as if the disk were full
    try:
        assert main(["compare", str(finished), "--figure", str(path)]) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    says = f"mpfl: {path}: file too large; free some space or raise its limit, or choose a place"
    assert capsys.readouterr().err == f"{says} that has more\n"
    assert path.read_bytes() == drawn, "the figure that was there is gone"
    assert {each.name for each in tmp_path.iterdir()} == {"figure.png", "folder.png"}
    assert main(["compare", str(finished), "--figure", str(tmp_path / "figure.xyz")]) == 2
    error = capsys.readouterr().err
    assert "figure.xyz" in error and "png" in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (None, "-"),
        (0, "0 B"),
        (9_999, "9,999 B"),
        (10_000, "10.0 kB"),
        (999_999, "1,000.0 kB"),
        (1_000_000, "1.0 MB"),
        (2_500_000_000, "2.5 GB"),
        (2_500_000_000_000, "2,500.0 GB"),
    ],
)
def test_bytes_have_a_unit(count, shown):
    assert terminal.size(count) == shown


# --- progress ----------------------------------------------------------------------------

STEPS = [
    Progress("mask rounds", 18, 100, "round 10/10, node 10/10, epoch 10/10"),
    Progress("federated training", 0, 50, "round 1/5, node 1/5, epoch 1/2"),
    Progress("federated training", 49, 50, "round 5/5, node 5/5, epoch 2/2"),
]


def test_progress_in_a_terminal_stays_on_its_lines(monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(live, "console", Console(file=screen, force_terminal=True, width=80))
    with live.LiveProgress("digits") as progress:
        for step in STEPS:
            progress.show(step)
            time.sleep(0.2)  # it draws ten times per second
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    lines = [line.rstrip() for line in re.split(r"[\r\n]+", shown) if line.strip()]
    assert all(len(line) <= 80 for line in lines)
    assert all(line.startswith(("mask rounds ", "federated training ")) for line in lines), lines
    assert any(re.search(r"round 10/10, node 10/10, epoch 10/10, left \S+$", x) for x in lines)
    assert [bool(re.search(r" done in 0:00:00$", line)) for line in lines[-2:]] == [True, True]


def test_progress_outside_a_terminal_is_a_line_now_and_then(capsys, monkeypatch):
    clock = iter([100, 100, 110, 140, 140])  # asked once per step, and again where a line is due
    monkeypatch.setattr(live, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    with live.LiveProgress("digits") as progress:
        for step in STEPS:
            progress.show(step)
    assert capsys.readouterr().out.splitlines() == [
        f"digits: {step.phase}: {step.text}" for step in (STEPS[0], STEPS[2])
    ]


# --- field=value -------------------------------------------------------------------------

WRITTEN = {
    "vote": [
        *BY_HISTOGRAM,
        weighted(tuple(range(1, 11)), 0.25),
        most_votes(7),
        relaxed(0.5),
        published_threshold(0.3),
        published_percentile(),
        published_percentile(0.9),
    ],
    "schedule": [
        geometric(),
        geometric(0.3, 2),
        arithmetic(0.2, 1),
        linear(),
        linear(0.5),
        cubic(0.7),
        one_shot(0.9),
    ],
    "quota": [
        even(),
        even(required=arithmetic(0.1, 1)),
        power(0.5),
        of_what_is_left(),
        of_what_is_left(required=arithmetic(0.1, 1)),
        over_network(2),
    ],
    "partition": [iid(), dirichlet(0.3), shards(), shards(3)],
    "data_noise": [
        None,
        permuted_labels(),
        shuffled_pixels(),
        gaussian(0.1),
        label_noise(0.2),
        blurred(1),
        first_classes(5),
    ],
    "fault": [
        None,
        random_mask(),
        inverted_mask(),
        colluding_veto(0.1, 3),
        randomised_response(2.0),
    ],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in WRITTEN.items() for value in values]
)
def test_what_a_configuration_shows_can_be_set(name, value):
    made = changed(Experiment(), [f"{name}={value!r}"])
    assert getattr(made, name) == value
    assert made == replace(Experiment(), **{name: value})


def test_every_rule_schedule_quota_partition_noise_and_fault_is_covered_here():
    tables = {
        "vote": RULES,
        "schedule": SCHEDULES,
        "partition": PARTITIONS,
        "quota": QUOTAS,
        "data_noise": DATA_NOISES,
        "fault": FAULTS | PRIVATE_VOTES,
    }
    for name, table in tables.items():
        assert {type(value) for value in WRITTEN[name] if value is not None} == {*table.values()}


@pytest.mark.parametrize("name", [each.name for each in dataclasses.fields(Experiment)])
def test_every_field_takes_its_own_default(name):
    default = getattr(Experiment(), name)
    start = replace(Experiment(), seed=9, rewind=False, images=50, data_noise=gaussian(0.1))
    if isinstance(default, Settings):
        parts = [f"{name}.{p.name}={getattr(default, p.name)}" for p in dataclasses.fields(default)]
        assert getattr(changed(start, parts), name) == default
        return
    text = default.__name__ if name == "score" else str(default)
    assert getattr(changed(start, [f"{name}={text}"]), name) == default


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("rounds=3", {"rounds": 3}),
        (" rounds = 3 ", {"rounds": 3}),
        ("images=50", {"images": 50}),
        ("images=None", {"images": None}),
        ("width=1", {"width": 1.0}),
        ("width=0.25", {"width": 0.25}),
        ("rewind=False", {"rewind": False}),
        ("model=vgg11-bn", {"model": "vgg11-bn"}),
        ("w0=files/a=b.safetensors", {"w0": "files/a=b.safetensors"}),
        ("score=taylor", {"score": SCORES["taylor"]}),
        ("vote=share", {"vote": share()}),
        ("vote=share(1)", {"vote": share(1.0)}),
        ("vote=share(tau=0.25)", {"vote": share(0.25)}),
        ("schedule=geometric(0.1, warmup=1)", {"schedule": geometric(0.1, 1)}),
        ("local.lr=0.1", {"local": Settings(lr=0.1)}),
        ("local.lr=1", {"local": Settings(lr=1.0)}),
        ("local.augment=True", {"local": Settings(augment=True)}),
        ("final.optimiser=adam", {"final": Settings(optimiser="adam", decay="cosine")}),
    ],
)
def test_a_field_is_set(text, fields):
    made = changed(Experiment(), [text])
    assert made == replace(Experiment(), **fields)
    for name, value in fields.items():
        assert type(getattr(made, name)) is type(value)


def test_several_fields_are_set_in_order():
    words = ["local.lr=0.1", "seed=1", "local.batch=8", "seed=2", "vote=share(1)"]
    made = changed(Experiment(), words)
    assert made == Experiment(local=Settings(lr=0.1, batch=8), seed=2, vote=share(1.0))
    assert repr(made.vote) == "share(tau=1.0)", "one rule, one name"


def test_a_match_is_set_and_unset():
    control = Experiment(method=LOTTERY)
    made = changed(control, ["match=runs/a"])
    assert made.match == "runs/a"
    assert changed(made, ["match=None"]) == control


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("=3", "no field ''"),
        ("rounds=", "cannot be read as int"),
        ("rounds=2.5", "cannot be read as int"),
        ("rounds=True", "cannot be read as int"),
        ("rounds=None", "cannot be read as int"),
        ("rounds={[]: 1}", "cannot be read as int"),
        ("rounds=" + "-" * 100_000 + "1", "cannot be read as int"),
        ("images=half", r"cannot be read as int \| None"),
        ("rewind=1", "cannot be read as bool"),
        ("width='1'", "cannot be read as float"),
        ("score=l3", "no score 'l3'; did you mean"),
        ("vote=None", "write it as a call of one of share, weighted"),
        ("vote=shares(0.5)", "no vote 'shares'; did you mean 'share'"),
        ("vote=share(", "write it as a call"),
        ("vote=share(0.5).tau", "write it as a call"),
        ("vote=(lambda: 1)()", "write it as a call"),
        ("vote=share(0.5)(1)", "write it as a call"),
        ("vote=share(1/2)", "arguments must be plain numbers"),
        ("vote=share(tau=x)", "arguments must be plain numbers"),
        ("vote=share(*[0.5])", "arguments must be plain numbers"),
        ("vote=share('a')", "share: 'a' is not float"),
        ("vote=share(2)", "tau is 2, but must be above 0 and at most 1"),
        ("vote=share(0.5, 1)", "share: too many positional arguments"),
        ("vote=share(k=1)", "share: got an unexpected keyword argument 'k'"),
        ("vote=share(**{'tau': 1})", "share: got an unexpected keyword argument"),
        ("vote=budget(2.5)", "most_votes: 2.5 is not int"),
        ("vote=weighted((1, 2))", "2 weights for 10 nodes"),
        ("partition=dirichlet", "missing a required argument: 'alpha'"),
        ("data_noise=fog(1)", "no data_noise 'fog'; did you mean"),
        ("fault=fog(1)", "no fault 'fog'; did you mean"),
        ("quota=of_what_is_left(even())", "of_what_is_left: even.* is not"),
        ("method=mfpl", "no method 'mfpl'; did you mean 'mpfl'"),
        ("local=3", r"change its parts one by one, such as local\.lr=0\.05"),
        ("local.rate=3", "no part of 'local' 'rate'; did you mean"),
        ("local.lr=fast", "cannot be read as float"),
        ("local.lr=1e300", r"lr is 1e\+300; give a positive number"),
        ("local.weight_decay=1e300", r"weight_decay 1e\+300; give a momentum"),
        ("local.batch=9223372036854775808", r"give less than 2\*\*63"),
        ("federated=by_sign_votes(eta=1e39)", r"eta is 1e\+39; give a positive number"),
        ("local.batch=1", "batch is 1"),
        ("vote.tau=1", "'vote' has no parts"),
        ("seed.x=1", "'seed' has no parts"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(text, says):
    with pytest.raises(MPFLError, match=says) as caught:
        changed(Experiment(), [text])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "vote=__import__('os').system('touch {mark}')",
        "vote=__import__('os')",
        "vote=share(__import__('pathlib').Path('{mark}').touch())",
        "vote=share(tau=open('{mark}', 'w'))",
        'noise=exec(\'open("{mark}", "w")\')',
        "rounds=open('{mark}', 'w')",
        "rounds=[open('{mark}', 'w') for _ in (1,)]",
        "local.lr=__import__('os').system('touch {mark}')",
    ],
)
def test_no_value_is_run_as_code(tmp_path, text):
    mark = tmp_path / "mark"
    with pytest.raises(MPFLError):
        changed(Experiment(), [text.format(mark=mark)])
    assert not mark.exists()
