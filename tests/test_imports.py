"""What `import mpfl` costs: the core must run where torch is not installed. And what names mean."""

from __future__ import annotations

import ast
import os
import pkgutil
import re
import subprocess
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from mpfl import types

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "mpfl"
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
    "contracts"
]
CORE = next(contract for contract in CONTRACTS if contract["type"] == "forbidden")


def modules_below(name: str) -> Iterator[str]:
    """A module, and if it is a package, every module below it."""
    yield name
    for folder in (find_spec(name).submodule_search_locations) or []:
        for found in pkgutil.walk_packages([folder], f"{name}."):
            yield found.name


CORE_MODULES = [each for name in CORE["source_modules"] for each in modules_below(name)]


def loaded_by(module: str) -> list[str]:
    """Which of the heavy packages importing a module loads, in a process of its own."""
    heavy = CORE["forbidden_modules"]
    program = f"import sys, {module}; print(*sorted(set({heavy}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("module", ["mpfl", *CORE_MODULES])
def test_core_module_loads_alone(module: str) -> None:
    assert loaded_by(module) == [], f"import {module} loads more than numpy"


def test_the_core_is_the_method_the_wire_the_baselines_and_the_analysis() -> None:
    files = {f"mpfl.{path.stem}" for path in PACKAGE.glob("[!_]*.py")}
    folders = {
        f"mpfl.{folder}.{path.stem}"
        for folder in ("wire", "baselines", "analysis")
        for path in (PACKAGE / folder).glob("[!_]*.py")
    }
    assert files | folders <= set(CORE_MODULES)


def test_importing_the_package_takes_no_time() -> None:
    program = (
        "import time; began = time.process_time(); import mpfl; print(time.process_time() - began)"
    )
    seconds = [
        float(subprocess.run([sys.executable, "-c", program], capture_output=True).stdout)
        for _ in range(3)
    ]
    assert min(seconds) < 0.3


NAMELESS = """
import os, pwd, sys

def nobody(*_):
    raise KeyError("getpwuid(): uid not found: 1234")

pwd.getpwuid = nobody
from mpfl.__main__ import main
import torch._inductor.runtime.runtime_utils as inductor
print(inductor.default_cache_dir(), os.environ["LOGNAME"])
sys.exit(main(["run", "digits", "--budget=toy", "--workers=1", "--out", sys.argv[1],
    *["--set=" + word for word in "nodes=2 rounds=1 epochs=1 images=80 central_epochs=1 "
      "federated_rounds=1 width=0.25".split()]]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("home", [None, "/"])
def test_a_user_without_a_name_can_run(tmp_path: Path, home: str | None) -> None:
    """As in ``docker run --user 1234``: no entry in the list of users, and no home of one's own."""
    pytest.importorskip("pwd", reason="a system without a list of users")
    named = {"HOME", "USER", "LOGNAME", "LNAME", "USERNAME"}
    bare = {name: value for name, value in os.environ.items() if name not in named}
    if home is not None:
        bare["HOME"] = home
    words = [sys.executable, "-c", NAMELESS, str(tmp_path / "run")]
    done = subprocess.run(words, env=bare, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    name = f"uid{os.getuid()}"
    assert done.stdout.splitlines()[0].endswith(f"torchinductor_{name} {name}")


def test_a_user_with_a_name_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "somebody")
    program = "import mpfl, getpass; print(getpass.getuser())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "somebody\n"


# --- what is not installed -------------------------------------------------------------------

DISTRIBUTIONS = {
    "IPython": "ipython",
    "PIL": "pillow",
    "prometheus_client": "prometheus-client",
    "grpc": "flwr",
    "ray": "flwr",
    "sklearn": "scikit-learn",
    "traitlets": "anywidget",
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def without(extra: str, *words: str) -> subprocess.CompletedProcess[str]:
    """A command where no module of ``extra`` is installed."""
    gone = [module for module, of in types._EXTRA_OF.items() if of == extra]
    program = (
        "import runpy, sys; sys.modules.update(dict.fromkeys(sys.argv.pop(1).split()));"
        "runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
    )
    line = [sys.executable, "-c", program, " ".join(gone), *words]
    return subprocess.run(line, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ("train", "mpfl data digits"),
        ("train", "mpfl run digits --out {tmp}/run"),
        ("train", "mpfl list"),
        ("train", "mpfl compare {tmp}"),
        ("train", "mpfl export {tmp} --onnx {tmp}/small.onnx"),
        ("train", "mpfl reproduce digits --list"),
        ("train", "mpfl.flower simulation digits --out {tmp}/run"),
        ("flower", "mpfl.flower deployment digits --out {tmp}/run"),
        ("flower", "mpfl.flower keys {tmp}/keys --host a.example --nodes 1"),
    ],
)
def test_a_command_names_the_extra_that_it_needs(tmp_path: Path, extra: str, words: str) -> None:
    done = without(extra, *words.format(tmp=tmp_path).split())
    assert done.returncode == 2
    said = rf"mpfl: \w+ is not installed; install mpfl with its extra: mpfl\[{extra}\]\n"
    assert re.fullmatch(said, done.stderr), done.stderr
    assert list(tmp_path.iterdir()) == []


def test_every_module_that_is_imported_is_in_an_extra_that_has_it() -> None:
    required = {re.split(r"[<>=\[]", each)[0] for each in PROJECT["dependencies"]}
    extras = PROJECT["optional-dependencies"]
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [str(node.module)]
            for module in {name.partition(".")[0] for name in names} - {"mpfl"}:
                if module in sys.stdlib_module_names or module in required:
                    continue
                extra = extras[types._EXTRA_OF[module]]
                listed = {re.split(r"[<>=\[]", each)[0] for each in extra}
                assert DISTRIBUTIONS.get(module, module) in listed, f"{path}: {module}"


def test_a_wheel_holds_every_file_of_the_package() -> None:
    """What is no module is data by the patterns of pyproject.toml."""
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    for path in PACKAGE.rglob("*"):
        if path.is_dir() or path.suffix in {".py", ".pyc"} or path.name.startswith("."):
            continue
        package = ".".join(path.relative_to(ROOT).parent.parts)
        assert any(path.match(each) for each in patterns["package-data"].get(package, [])), path
    homes = {path.parent for path in PACKAGE.rglob("*.py")}
    assert [home for home in homes if not (home / "__init__.py").exists()] == []


def test_flower_says_that_it_wants_the_checkout(tmp_path: Path, monkeypatch: Any) -> None:
    pytest.importorskip("flwr", reason="the engine is not installed")
    from mpfl.flower import launch

    launch.require_engine()
    monkeypatch.setattr(launch, "APP", tmp_path)
    with pytest.raises(types.MPFLError, match=r"is no checkout of mpfl.*--editable"):
        launch.require_engine()


# --- one word a thing ------------------------------------------------------------------------


def public_names(path: Path) -> Iterator[str]:
    """The functions, classes, constants and aliases that a file defines at its top."""
    for node in ast.parse(path.read_text()).body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                names = [name]
            case ast.ClassDef(name=name):
                names = [name]
            case ast.Assign() | ast.AnnAssign():
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                parts = (part for target in targets for part in ast.walk(target))
                names = [part.id for part in parts if isinstance(part, ast.Name)]
            case _:
                names = []
        yield from (name for name in names if not name.startswith("_"))


def test_no_two_public_names_are_equal() -> None:
    """``main`` alone is every command's own."""
    homes = defaultdict(set)
    for path in PACKAGE.rglob("*.py"):
        for name in public_names(path):
            homes[name].add(str(path.relative_to(PACKAGE)))
    twice = {name: sorted(files) for name, files in homes.items() if len(files) > 1}
    assert {name: files for name, files in twice.items() if name != "main"} == {}


def test_every_kind_of_public_name_is_seen() -> None:
    seen = set(public_names(PACKAGE / "prune.py"))
    assert {"Score", "SCORES", "l2", "select"} <= seen and "_rows" not in seen
    assert {"MAGIC", "VERSION", "Kind"} <= set(public_names(PACKAGE / "wire" / "frame.py"))
