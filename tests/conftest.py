"""What every test sees: one thread, no GPU, and experiments that take a fraction of a second."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from beartype import BeartypeConf, beartype
from hypothesis import settings
from jaxtyping import config, install_import_hook

# Before torch is imported, and inherited by every process that a test starts: equal runs are
# compared bit by bit, and sums depend on how many threads share them.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
FLAGS = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

# Array shapes written in signatures are enforced here, and only here. An int is a float.
enforce = beartype(conf=BeartypeConf(is_pep484_tower=True))
install_import_hook("mpfl", "conftest.enforce")

# The first draw imports and compiles; a shared machine may stall. Neither is a fault. Where CI is
# set, as by .ci/run, every run draws the same examples: a fault there is the change's own.
settings.register_profile("mpfl", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, database=None, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "mpfl")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Slow tests first, dealt out to the workers: one that begins last leaves a core idle.

    ``--dist worksteal`` hands each worker a run of the list, as long as the next one's.
    """
    workers = getattr(config, "workerinput", {}).get("workercount", 1)
    slow = [item for item in items if item.get_closest_marker("slow")]
    rest = [item for item in items if not item.get_closest_marker("slow")]
    part = -(-len(rest) // workers)
    items[:] = [
        item
        for worker in range(workers)
        for item in slow[worker::workers] + rest[worker * part : (worker + 1) * part]
    ]


@pytest.fixture
def types_unchecked() -> Iterator[None]:
    """As it is for users: a value of the wrong type reaches mpfl's own checks."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


@pytest.fixture
def made_up_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """Records need not be whole: a test makes up what it looks at, of the right cell."""
    from mpfl.evidence import cells

    monkeypatch.setattr(cells, "require_whole", lambda run: run)


@pytest.fixture(scope="session")
def quick() -> Callable[..., Any]:
    """``quick(method, **changes)``: the digits recipe, cut down to a fraction of a second."""
    from mpfl.runs.recipes import recipe

    small = {
        "images": 120,
        "nodes": 2,
        "rounds": 2,
        "epochs": 1,
        "width": 0.25,
        "central_epochs": 1,
        "federated_rounds": 2,
    }

    def make(method: str = "mpfl", **changes: Any) -> Any:
        name = "digits" if method == "mpfl" else f"digits-{method}"
        return recipe(name, "toy", **(small | changes))

    return make


@pytest.fixture(scope="session")
def finished(quick: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished quick run; to be read, not written."""
    from mpfl.runs.runner import run

    folder = tmp_path_factory.mktemp("finished") / "run"
    run(quick(), folder)
    return folder


@pytest.fixture(scope="module")  # an event loop runs as long as it is open
def browser() -> Iterator[Any]:
    """Chromium, which shares nothing between the tests but its process."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: install the package `chromium`")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield launched
        launched.close()


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Any]:
    """``opened(widget)``: its page; afterwards nothing failed, and it fits a narrow screen."""
    from widget_pages import Page

    tab = browser.new_page()
    pages = []

    def open_(widget: Any) -> Page:
        pages.append(Page(tab, widget, tmp_path))
        return pages[-1]

    yield open_
    wide = tab.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    tab.set_viewport_size({"width": 360, "height": 800})
    tab.wait_for_timeout(50)
    narrow = tab.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    tab.close()
    assert [page.faults for page in pages] == [[]]
    assert wide <= 0 and narrow <= 0, "the page moves sideways"
