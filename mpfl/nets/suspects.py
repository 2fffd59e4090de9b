"""Which steps of a network a smaller one may have to do differently, whatever the mask."""

from __future__ import annotations

import numpy as np
import torch

from mpfl.nets.follow.network import operation, part_of
from mpfl.nets.follow.rules import BY_NAME
from mpfl.nets.follow.sums import added, divided, multiplied
from mpfl.nets.follow.walk import Walk
from mpfl.nets.tensors import tensors_in

BINARY = {name for name, rule in BY_NAME.items() if rule in (added, multiplied, divided)}
"""Operations of two terms, which may keep different channels."""

_SIZED = """view reshape expand unflatten chunk split split_with_sizes tensor_split getitem narrow
select channel_shuffle repeat tile unfold view_as reshape_as expand_as roll squeeze flip
ChannelShuffle Unflatten LSTM GRU RNN"""
"""Movements that may name a size, or a place, along an axis that is cut."""


def suspects_of(walk: Walk, training: bool) -> set[str]:
    """Which operations may need a repair, whatever the mask."""
    labels, suspects = walk.of_node[training], set()
    for node in walk.graphs[training].graph.nodes:
        name = operation(node, part_of(node, walk.graphs[training])).rstrip("_")
        if name in _SIZED.split() and tensors_in(labels[node]):
            suspects.add(name)
        if name in BINARY and isinstance(labels[node], torch.Tensor):
            total = walk.owners.settled(labels[node])
            for term in node.all_input_nodes:
                its = labels.get(term)
                if isinstance(its, torch.Tensor) and its.shape == labels[node].shape:
                    if not np.array_equal(walk.owners.settled(its) // 2, total // 2):
                        suspects.add(name)
                elif isinstance(its, torch.Tensor) and not walk.owners.is_kept(its):
                    suspects.add(name)
    return suspects
