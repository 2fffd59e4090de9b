"""Settings of every test."""

from __future__ import annotations

from beartype import BeartypeConf, beartype
from hypothesis import settings
from jaxtyping import install_import_hook

# Array shapes written in signatures are enforced here, and only here. An int is a float.
enforce = beartype(conf=BeartypeConf(is_pep484_tower=True))
install_import_hook("mpfl", "conftest.enforce")

# The first draw imports and compiles; a shared machine may stall. Neither is a fault.
settings.register_profile("mpfl", deadline=None)
settings.load_profile("mpfl")
