"""Pictures: the data sets, who holds which of them, and what spoils them.

:func:`load` reads a set that :func:`mpfl.data.fetch.fetch` has put in place.
"""

from mpfl.data.catalogue import NAMES, load
from mpfl.data.dataset import Dataset

__all__ = ["NAMES", "Dataset", "load"]
