"""A network in lines of text: what it is, what is refused, and the page reads it alike."""

import re

import numpy as np
import pytest

from mpfl.analysis.ledger import bill
from mpfl.node import Plan
from mpfl.schedules import geometric
from mpfl.seeds import rng_for
from mpfl.show.widgets.bytes import _plain
from mpfl.show.widgets.network import Network, written_network
from mpfl.show.widgets.playable import module
from mpfl.types import MPFLError

SMALL = "images 900\ninput 3\n\nconv1 8 3x3 norm\n  conv2\t6 5\nhidden 4 2x2 norm\nclasses 10"


def test_a_written_network_has_the_shapes_that_it_says():
    network = written_network(SMALL)
    assert network.images == 900
    assert [(layer.name, layer.filters) for layer in network.layout.layers] == [
        ("conv1", 8), ("conv2", 6), ("hidden", 4),
    ]  # fmt: skip
    shapes = network.layout.shapes
    weights = {name: shape for name, shape in shapes.items() if len(shape) > 1}
    assert weights == {
        "conv1.weight": (8, 3, 3, 3),
        "conv2.weight": (6, 8, 5),
        "hidden.weight": (4, 6, 2, 2),
        "classes.weight": (10, 4),
    }
    assert shapes["conv1.norm.running_var"] == (8,) and "conv2.norm.weight" not in shapes
    assert len(shapes) == 4 + 4 + 2 * 4  # weights, biases, two batch norms
    assert set(shapes) - set(network.voted) == {
        f"{name}.norm.running_{what}" for name in ("conv1", "hidden") for what in ("mean", "var")
    }


def test_pruning_cuts_what_belongs_to_a_filter_and_what_reads_it():
    """A bill of the final rounds falls by just these weights."""
    plan = Plan(written_network(SMALL).layout, geometric(0.5), 1)
    small = written_network("input 3\nconv1 4 3x3 norm\nconv2 3 5\nhidden 2 2x2 norm\nclasses 10")
    left = bill("lottery", plan, [5, 5], final_rounds=3).final_up
    alone = Plan(small.layout, geometric(0.0), 1)
    assert left == bill("lottery", alone, [5, 5], final_rounds=3).final_up


BROKEN = [
    ("", "line 1: give at least two layers; the last one is the output"),
    ("input 3\na 4\n\n", "line 4: give at least two layers"),
    ("a 4\nb 4", "line 1: say first how many channels the images have, such as input 3"),
    ("input", "line 1: give input and one number, such as input 3"),
    ("images 1 2", "line 1: give images and one number, such as images 3"),
    ("input 0", 'line 1: "0" is no number of channels; give a whole number from 1 to 4096'),
    ("input 3\na 4\ninput 3", "line 3: input stands above the layers"),
    ("input 3\n\ninput 4\na 4\nb 4", "line 3: input stands above already; say it once"),
    ("images 5\nimages 5", "line 2: images stands above already; say it once"),
    ("input 3\nimages 99999999", 'line 2: "99999999" is no number of images'),
    ("input 3\n\n4 64", 'line 3: "4" is no name; give letters, digits'),
    ("input 3\na\nb 4", "line 2: give a a number of filters, such as a 64 3x3"),
    ("input 3\na 4.5", 'line 2: "4.5" is no number of filters; give a whole number from 1 to 4096'),
    ("input 3\na 4097", 'line 2: "4097" is no number of filters'),
    ("input 3\na 4\na 5", "line 3: there is a layer a above; give each a name of its own"),
    ("input 3\na 4 3y3", 'line 2: "3y3" is no kernel; give a size such as 3x3, or norm'),
    ("input 3\na 4 3x3x3x3", 'line 2: "3x3x3x3" is no kernel'),
    ("input 3\na 4 999x999", "line 2: a kernel has at most 65536 weights here"),
    (
        "input 3\na 4 3x3 batch",
        'line 2: "batch" is one word too many; a kernel and norm may follow',
    ),
    ("input 3\na 4 norm 3x3", 'line 2: "3x3" is one word too many'),
    ("input 3\n" + "".join(f"a{i} 2\n" for i in range(61)), "line 62: a network has at most 60"),
    ("input 3\né 4", 'line 2: "é" is no name'),
    (f"input 3\n🙂{'a' * 40} 4", f'line 2: "🙂{"a" * 29}…" is no name'),
    (f"input 3\n{'a' * 999} 4", f'line 2: "{"a" * 30}…" is no name'),
    (
        "input 4096\na 4096 256\nb 4096 256\nc 10",
        "line 4: a network has at most 8,000,000,000 weights here, and this has 8,589,983,754",
    ),
]


@pytest.mark.parametrize(("text", "says"), BROKEN)
def test_a_written_network_refuses_by_line(text, says):
    with pytest.raises(MPFLError, match=re.escape(f"network, {says}")):
        written_network(text)


def drawn_text(rng: np.random.Generator) -> str:
    """Some lines that are a network, or nearly."""
    lines = [f"input {rng.integers(1, 4)}"]
    for place in range(rng.integers(1, 6)):
        kernel = ["", " 3x3", " 9", " norm", " 3x3 norm", " 2x2x2"][rng.integers(6)]
        lines.append(f"layer{place} {rng.integers(1, 90)}{kernel}")
    if rng.random() < 0.4:
        at = int(rng.integers(len(lines)))
        lines[at] = lines[at].replace(
            *[(" ", "  "), ("l", "L"), ("3", "x"), ("1", "")][rng.integers(4)]
        )
    if rng.random() < 0.3:
        lines.insert(
            int(rng.integers(len(lines) + 1)), ["images 12", "", "input 2", "é"][rng.integers(4)]
        )
    return ["\n", "\r\n"][rng.integers(2)].join(lines)


@pytest.mark.browser
def test_the_page_reads_a_network_as_python_does(browser):
    rng = rng_for(0, "network")
    texts = [SMALL, *(text for text, _ in BROKEN), *(drawn_text(rng) for _ in range(400))]
    tab = browser.new_page()
    found = tab.evaluate(
        """([source, texts]) => {
            const read = new Function(`${source}; return (text) => {
                try { return writtenNetwork(text); } catch (error) { return error.message; }
            }`)();
            return texts.map(read);
        }""",
        [module("network.js", "ledger.js"), texts],
    )
    tab.close()
    read = 0
    for text, answer in zip(texts, found, strict=True):
        try:
            network = written_network(text)
        except MPFLError as error:
            assert answer == str(error).removeprefix("network, "), text
        else:
            read += 1
            assert isinstance(network, Network) and answer == _plain(network), text
    assert 150 < read < 400
