"""The bandwidth calculator: a network and a protocol to set, every way's bytes by phase."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, cast

import traitlets

from mpfl.analysis.ledger import Bill, Way, bill
from mpfl.nets.networks import blueprint
from mpfl.node import Plan
from mpfl.schedules import geometric
from mpfl.show.widgets.network import Network, written_network
from mpfl.show.widgets.playable import Between, Playable, module
from mpfl.sign_votes import Per
from mpfl.types import MPFLError

# As bytes.js draws them; "w0-norms" sends what "lottery" sends.
_WAYS: tuple[Way, ...] = ("mpfl", "lottery", "one-bit", "pruning-fl", "fedavg")
# What a length is of, where the final training goes by votes with lengths.
_LENGTHS: Mapping[str, Per] = {"lengths": "tensor", "channels": "channel"}
# What the page's controls can be set to, but for the network.
_CONTROLS: Mapping[str, tuple[str, ...] | Between] = {
    "nodes": Between(1, 1000),
    "rounds": Between(1, 30),
    "share": Between(0, 0.5),
    "coding": ("shortest", "packed"),
    "w0": ("seed", "weights"),
    "final_rounds": Between(0, 50),
    "final_by": ("weights", "votes", *_LENGTHS),
}
OWN = "your own"
EVERY = 10  # by votes, statistics travel in each tenth round and in the last
_EXAMPLE = """images 50000
input 3
conv1 64 3x3 norm
conv2 128 3x3 norm
hidden 256 8x8
classes 10"""


def networks() -> dict[str, Network]:
    """The networks of the book and of the paper, without their weights."""
    known = {
        "VGG11 at half width, CIFAR-10": ("vgg11-bn", 10, 0.5, 50_000),
        "torchvision's VGG11, CIFAR-10": ("torchvision-vgg11", 10, 1.0, 50_000),
        "torchvision's ResNet18, ImageNet100": ("torchvision-resnet18", 100, 1.0, 130_000),
        "digits-cnn, digits": ("digits-cnn", 10, 1.0, 1_438),
    }
    return {
        label: Network(blueprint(name, classes, width=width), images)
        for label, (name, classes, width, images) in known.items()
    }


class BandwidthCalculator(Playable):
    """The bill of every way at the reader's setting, counted anew at every move.

    ``among`` are the networks to choose from, by default :func:`networks`; besides, the reader may
    write one (:mod:`mpfl.show.widgets.network`). Nodes hold equally many images, but for one. The
    final training goes by weights, by votes on directions (:mod:`mpfl.sign_votes`), or by those
    with lengths (:mod:`mpfl.scaled_votes`). Read :meth:`bills` for what is shown. Raises
    :class:`~mpfl.types.MPFLError` for a setting that the controls do not have, for one that leaves
    a layer without filters, and for a written network that cannot be read.
    """

    kind = "bandwidth calculator"
    label = "Bandwidth calculator: choose a network and a protocol, read the bytes of every way"
    _esm = module("network.js", "ledger.js", "bytes.js")

    networks = traitlets.Dict().tag(sync=True)
    network = traitlets.Unicode().tag(sync=True)
    nodes = traitlets.Int(10).tag(sync=True)
    rounds = traitlets.Int(10).tag(sync=True)
    share = traitlets.Float(0.15).tag(sync=True)
    coding = traitlets.Unicode("shortest").tag(sync=True)
    w0 = traitlets.Unicode("seed").tag(sync=True)
    final_rounds = traitlets.Int(10).tag(sync=True)
    final_by = traitlets.Unicode("weights").tag(sync=True)
    own = traitlets.Unicode(_EXAMPLE).tag(sync=True)

    def __init__(self, among: Mapping[str, Network] | None = None, **setting: Any) -> None:
        self._among = dict(networks() if among is None else among)
        if not self._among:
            raise MPFLError(f"{self.kind}: no network to choose from; give at least one")
        chosen = {name: value for name, value in setting.items() if name != "own"}
        self.check(chosen, {"network": (*self._among, OWN), **_CONTROLS})
        super().__init__(
            networks={label: _plain(network) for label, network in self._among.items()},
            **{"network": next(iter(self._among))} | setting,
        )
        self.plan()

    def chosen(self) -> Network:
        """The network that the reader chose or wrote."""
        return written_network(self.own) if self.network == OWN else self._among[self.network]

    def plan(self) -> Plan:
        """What all parties know, at the reader's setting; raises if a layer would be empty."""
        coding = cast(Literal["shortest", "packed"], self.coding)
        layout = self.chosen().layout
        return Plan(layout, geometric(self.share), self.rounds, coding=coding)

    def samples(self) -> list[int]:
        """How many images each node holds, as :class:`mpfl.data.partition.iid` deals them out."""
        each, more = divmod(self.chosen().images, self.nodes)
        return [each + (node < more) for node in range(self.nodes)]

    def bills(self) -> dict[Way, Bill]:
        """The bill of every way at the reader's setting.

        Without final rounds there is no training to pay for. Then dense FedAvg and one bit a
        weight, which are nothing else, are given as many rounds as there are mask rounds. These
        two stay what they are when the others' final training goes by votes.
        """
        plan, samples = self.plan(), self.samples()
        w0 = cast(Literal["seed", "weights"], self.w0)
        voted = () if self.final_by == "weights" else self.chosen().voted
        bills = {}
        for way in _WAYS:
            alone = way in ("fedavg", "one-bit")
            final = self.final_rounds or (self.rounds if alone else 0)
            bills[way] = bill(way, plan, samples, w0=w0, final_rounds=final,
                              voted=() if alone else voted, every=EVERY,
                              lengths=None if alone else _LENGTHS.get(self.final_by))  # fmt: skip
        return bills


def _plain(network: Network) -> dict[str, Any]:
    """A network as plain numbers: its layers, and each tensor with the axes that masks cut.

    A tensor is ``[name, shape, layer of axis 0 or -1, layers of axis 1, inputs a channel, whether
    training moves it]``, in the order in which a message holds them.
    """
    layout = network.layout
    place = {layer.name: index for index, layer in enumerate(layout.layers)}
    own = {tensor: place[layer.name] for layer in layout.layers for tensor in layer.own}
    read = {reader.tensor: reader for reader in layout.readers}
    tensors = [
        [
            name,
            list(layout.shapes[name]),
            own.get(name, -1),
            [place[layer] for layer in read[name].layers] if name in read else [],
            read[name].block if name in read else 1,
            name in network.voted,
        ]
        for name in sorted(layout.shapes)
    ]
    return {
        "layers": [[layer.name, layer.filters] for layer in layout.layers],
        "tensors": tensors,
        "images": network.images,
    }
