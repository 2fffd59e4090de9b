"""Masked pruning over federated learning: nodes vote one bit per filter, the server counts.

The files in this folder are the method. Each folder does one thing with it: ``wire`` writes its
messages, ``baselines`` are what it is compared with, ``analysis`` asks a vote questions,
``data`` and ``nets`` are pictures and networks, ``runs`` runs an experiment into a folder,
``evidence`` judges what was run, ``show`` shows it, ``flower`` carries it between machines.

Source: Gez & Cohen, *A Masked Pruning Approach for Dimensionality Reduction in
Communication-Efficient Federated Learning Systems*, arXiv 2312.03889.

The names that a reader needs most are here; each is loaded when it is asked for:

>>> from mpfl import recipe, share
>>> recipe("digits", "toy", vote=share(0.5)).rounds
5
"""

import getpass
import os
from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "types": "MPFLError Answer Update",
    "seeds": "rng_for",
    "filters": "Layer Layout",
    "masks": "Keep",
    "prune": "uses_gradients",
    "vote": "Rule LayerRule Tally share weighted most_votes relaxed",
    "schedules": "geometric linear cubic one_shot",
    "allocate": "Quota LayerQuota even power over_network",
    "algorithm": "Algorithm Start State",
    "node": "Plan Voter",
    "server": "masked_pruning",
    "simulation": "simulate",
    "wire": "Ballots",
    "nets.tracing": "layout_of",
    "nets.cutting": "compact",
    "runs.experiment": "Experiment",
    "runs.methods": "METHODS Method",
    "runs.recipes": "recipe",
    "runs.workbench": "Workbench",
    "runs.runner": "run",
    "runs.record": "read_run",
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names.split()}
__all__ = sorted(_HOME_OF)


def _name_the_user() -> None:
    """Give a user whom the system has no name for one, as in ``docker run --user 1234``.

    torch and Flower name folders after the user, and fail for one without a name.
    """
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["LOGNAME"] = f"uid{os.getuid()}"


_name_the_user()


def __getattr__(name: str) -> Any:
    """Load a name's module when it is first asked for (PEP 562): torch only if it is needed."""
    if name not in _HOME_OF:
        raise AttributeError(f"module 'mpfl' has no attribute {name!r}")
    value = getattr(import_module(f"mpfl.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
