"""Pictures: the data sets, which node holds which image, and what spoils a node's data.

:func:`mpfl.data.catalogue.load` reads a set that :func:`mpfl.data.fetch.fetch` has put in place.
Partitions are in :mod:`mpfl.data.partition`, noises in :mod:`mpfl.data.noise`.
"""

from mpfl.data.catalogue import NAMES, load
from mpfl.data.dataset import Dataset

__all__ = ["NAMES", "Dataset", "load"]
