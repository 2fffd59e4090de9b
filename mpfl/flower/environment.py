"""What the processes of a Flower run find in their environment, besides what the shell has set."""

from __future__ import annotations

import os
import tempfile

QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",  # else each run asks the network
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # then Ray stays on loopback, on Linux too
    "OMP_NUM_THREADS": "1",
}
DIRECT = ("127.0.0.1", "localhost", "::1")
"""Hosts that are reached without a proxy, whatever the shell has set."""


FLOWERS_OWN = 2**31 - 1
"""The longest message that Flower takes, in bytes, if it is told no other cap."""


def short_sockets() -> dict[str, str]:
    """Where Ray puts its sockets: a path may have 107 bytes, and its own part has 70."""
    if "RAY_TMPDIR" in os.environ or len(os.fsencode(tempfile.gettempdir())) <= 32:
        return {}
    return {"RAY_TMPDIR": "/tmp"}


def without_proxy() -> dict[str, str]:
    """The variables that keep :data:`DIRECT` from a proxy, with the hosts that they name now.

    Whoever reads one of the first two names does not read the other, so both say the same. gRPC
    looks for the third, and reads no other if it is there.
    """
    both = [os.environ.get(name, "") for name in ("no_proxy", "NO_PROXY")]
    direct = {"no_proxy": _with_direct(*both), "NO_PROXY": _with_direct(*both)}
    if (own := os.environ.get("no_grpc_proxy")) is not None:  # noqa: SIM112
        direct["no_grpc_proxy"] = _with_direct(own)
    return direct


def _with_direct(*lists: str) -> str:
    named = [host.strip() for hosts in lists for host in hosts.split(",")]
    return ",".join(dict.fromkeys([host for host in named if host] + list(DIRECT)))
