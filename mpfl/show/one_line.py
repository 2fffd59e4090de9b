"""A command line that says what is wrong with it in one line."""

from __future__ import annotations

import argparse
import sys
from typing import NoReturn


class OneLineParser(argparse.ArgumentParser):
    """As :class:`argparse.ArgumentParser`, but an error is one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        """Say it, and leave with exit code 2."""
        print(f"mpfl: {' '.join(message.split())}; see {self.prog} --help", file=sys.stderr)
        sys.exit(2)
