"""How long a message of a run may be, from which the server's cap is set."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from mpfl import masks, wire
from mpfl.filters import cut_shapes
from mpfl.flower.config import experiment_of
from mpfl.flower.environment import FLOWERS_OWN
from mpfl.flower.superlink import ENVELOPE, LONGEST
from mpfl.runs.workbench import Workbench
from mpfl.show.one_line import mended
from mpfl.types import MPFLError


def longest_message(bench: Workbench) -> int:
    """No message of this run is longer, up or down, in bytes.

    The longest goes down: weights of the whole network, w0 and a mask in one.
    """
    layout, full = bench.layout, masks.full(bench.layout)
    weights = wire.weights_length(cut_shapes(layout, full), samples=2**63 - 1)
    mask = len(wire.encode_mask(full, layout, 0, reference=full, coding="packed"))
    return 2 * weights + mask + ENVELOPE


def require_room(bench: Workbench) -> None:
    """Refuse to begin if the cap is too low for the run's own messages."""
    longest, need = int(os.environ.get(LONGEST, FLOWERS_OWN)), longest_message(bench)
    if need > longest:
        raise MPFLError(
            f"the server takes messages of up to {longest:,} bytes, and this run's may have "
            f"{need:,}; start the server again with --longest {need}"
        )


def main(text: str) -> int:
    """Print it for settings in JSON; 2 with one line on standard error if they are refused."""
    config = json.loads(text)
    try:
        print(longest_message(Workbench(experiment_of(config), Path(config["root"]))))
    except (MPFLError, OSError) as error:
        print(f"mpfl: {mended(error)}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
