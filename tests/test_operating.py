"""What the page *Keep it running* gives to copy: units, metrics, options that are there."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

pytest.importorskip("flwr", reason="the engine is not installed")

from mpfl.flower import metrics
from mpfl.flower.engine import command

PAGE = (Path(__file__).parent.parent / "book" / "keep-it-running.md").read_text()
UNITS = dict(
    zip(
        re.findall(r"`/etc/systemd/system/(\S+)`:", PAGE),
        re.findall(r"```ini\n(.*?)```", PAGE, re.S),
        strict=True,
    )
)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
@pytest.mark.parametrize("name", UNITS)
def test_systemd_reads_the_units(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(UNITS[name])
    done = subprocess.run(
        ["systemd-analyze", "verify", str(tmp_path / name)], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_units_start_the_commands_with_options_that_they_have() -> None:
    """Both commands of the engine are asked for their options."""
    for name, asked_of in (
        ("mpfl-server.service", "flower-superlink"),
        ("mpfl-node.service", "flower-supernode"),
    ):
        asked = subprocess.run(
            [command(asked_of), "--help"], capture_output=True, text=True, check=True
        )
        used = set(re.findall(r"(?<= )--[a-z-]+", UNITS[name])) - {"--longest"}
        there = set(re.findall(r"--[a-z-]+", asked.stdout))
        assert used and used <= there, used - there


def test_compose_reads_as_yaml_and_opens_one_port() -> None:
    [block] = re.findall(r"```yaml\n(.*?)```", PAGE, re.S)
    server = yaml.safe_load(block)["services"]["server"]
    assert server["ports"] == ["9092:9092"] and "--enable-supernode-auth" in server["command"]


def test_every_metric_has_its_row() -> None:
    source = Path(metrics.__file__).read_text()
    written = {f"mpfl_{name}" for name in re.findall(r'gauge\(\s*"(\w+)"', source)}
    assert written == set(re.findall(r"`(mpfl_\w+)`", PAGE)) and len(written) == 7
