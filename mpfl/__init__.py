"""Masked Pruning over Federated Learning (MPFL), the method and its controls.

Importing this package loads numpy and the standard library only: the server of a
deployment needs nothing more. Training lives in ``mpfl.train``, models in
``mpfl.models``; both need torch.

Source: Gez & Cohen, *A Masked Pruning Approach for Dimensionality Reduction in
Communication-Efficient Federated Learning Systems*, arXiv 2312.03889.
"""

__version__ = "0.1.0"
