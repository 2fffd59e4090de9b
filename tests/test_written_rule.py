"""A vote rule in one written line: what it keeps, what it refuses, and the page reads it alike."""

import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpfl.analysis.written import FACTS, LONGEST_LINE, written_rule
from mpfl.masks import Keep
from mpfl.seeds import rng_for
from mpfl.show.widgets.playable import module
from mpfl.types import MPFLError
from mpfl.vote import Tally, most_votes, share


def tally_of(votes: Any, nodes: int, norms: Any, keep: int = 1) -> Tally:
    alive = np.ones(len(votes), bool)
    return Tally(np.array(votes), nodes, alive, keep, np.array(norms, dtype=np.float64))


FIVE = tally_of([5, 4, 3, 3, 0], 5, [1.0, 2.0, 4.0, 5.0, 9.0], keep=3)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("votes >= 0.7*N or norm > median", "11011"),
        ("votes >= 4", "11000"),
        ("votes≥4", "11000"),
        ("share <= .6", "00111"),
        ("rank <= keep", "11010"),
        ("rank == 3", "00010"),
        ("not votes > 3 and norm > 4", "00011"),  # not binds closer than and
        ("votes > 3 or norm > 4 and votes > 0", "11010"),  # and closer than or
        ("not (votes > 3 or norm > 4)", "00100"),
        ("1 + 2 * 3 == 7", "11111"),
        ("8 - 4 - 2 == 2 and 8 / 4 / 2 == 1", "11111"),
        ("-votes + N == 2", "00110"),
        ("--votes == 5", "10000"),
        ("filters != 5", "00000"),
        ("norm / votes > 100", "00001"),  # an infinity
        ("votes / votes == votes / votes", "11110"),  # 0 / 0 is no number
        ("votes / votes != 1", "00001"),
        ("((votes)) > (2)", "11110"),
    ],
)
def test_a_written_rule_keeps(text, kept):
    assert "".join(str(int(bit)) for bit in written_rule(text)(FIVE)) == kept


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "place 1: a name, a number or a bracket must stand here, not the end"),
        ("  ", "place 3: a name, a number or a bracket must stand here, not the end"),
        ("votes >=", "place 9: a name, a number or a bracket must stand here, not the end"),
        ("votes > > 1", 'place 9: a name, a number or a bracket must stand here, not ">"'),
        ("or votes", 'place 1: a name, a number or a bracket must stand here, not "or"'),
        ("vote > 1", 'place 1: there is no "vote"; the names are votes, N, share'),
        ("votes > n", 'place 9: there is no "n"; the names are'),
        ("votes", "place 1: this is a number; compare it"),
        ("1 < votes < 3", 'place 11: "<" is one too many here; join conditions by and, or'),
        ("votes > 1 norm > 2", 'place 11: "norm" is one too many here'),
        ("votes > 1)", 'place 10: ")" is one too many here'),
        ("(votes > 1", "place 11: the bracket of place 1 is not closed"),
        ("votes = 1", 'place 7: "=" is not part of a rule'),
        ("votes > 1 && N", 'place 11: "&" is not part of a rule'),
        ("votes > 1 🙂", 'place 11: "🙂" is not part of a rule'),
        ("votes\n> 1", r'place 6: "\n" is not part of a rule'),
        ("votes > 1e5", 'place 10: "e5" is one too many here'),
        ("votes or N > 1", 'place 1: a number stands here, but "or" takes conditions'),
        ("N > 1 and 3", 'place 11: a number stands here, but "and" takes conditions'),
        ("not 3", 'place 5: a number stands here, but "not" takes conditions'),
        ("-(N > 1) > 2", 'place 2: a condition stands here, but "-" takes numbers'),
        ("(N > 1) + 1 > 2", 'place 1: a condition stands here, but "+" takes numbers'),
        ("(N > 1) == (N > 2)", 'place 1: a condition stands here, but "==" takes numbers'),
        ("(" * 21, "place 21: this is nested more than 20 deep"),
        ("not " * 21 + "N > 1", "place 81: this is nested more than 20 deep"),
        (
            "1" * (LONGEST_LINE + 1),
            f"place {LONGEST_LINE + 1}: a rule has at most {LONGEST_LINE} characters",
        ),
        ("__import__", 'place 1: a name, a number or a bracket must stand here, not "__import__"'),
    ],
)
def test_a_written_rule_refuses_and_says_where(text, says):
    with pytest.raises(MPFLError, match=re.escape(f"written rule, {says}")):
        written_rule(text)


@given(st.data())
def test_two_rules_of_mpfl_can_be_written(data):
    nodes, filters = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 12))
    votes = data.draw(st.lists(st.integers(0, nodes), min_size=filters, max_size=filters))
    norms = data.draw(st.lists(st.integers(0, 4), min_size=filters, max_size=filters))
    keep, tau = data.draw(st.integers(1, filters)), data.draw(st.integers(1, 20)) / 20
    tally = tally_of(votes, nodes, norms, keep)
    most = most_votes().decide({"layer": tally}, Keep.by_layer({"layer": keep}))["layer"]
    assert (written_rule("rank <= keep")(tally) == most).all()
    assert (written_rule(f"share >= {tau}")(tally) == share(tau)(tally)).all()


def pick(rng: np.random.Generator, among: Sequence[str]) -> str:
    return among[rng.integers(len(among))]


def grown(rng: np.random.Generator, depth: int, condition: bool) -> str:
    """A line of the grammar that is as deep as asked at most."""
    joins, before = (("and", "or"), "not ") if condition else ("+-*/", "-")
    kinds = 5 if condition else 6
    kind = rng.integers(kinds) if depth else rng.integers(4, kinds)
    if kind < 2:
        one, other = (grown(rng, depth - 1, condition) for _ in range(2))
        return f"{one} {pick(rng, joins)} {other}"
    if kind == 2:
        return f"{before}{grown(rng, depth - 1, condition)}"
    if kind == 3:
        return f"({grown(rng, depth - 1, condition)})"
    if condition:
        sign = pick(rng, [">=", ">", "<=", "<", "==", "!=", "≥", "≤"])
        one, other = (grown(rng, max(depth - 1, 0), False) for _ in range(2))
        return f"{one}{pick(rng, ['', ' '])}{sign} {other}"
    if kind == 4:
        return pick(rng, (*FACTS, "votes", "norm", "rank", "share", "votes", "norm"))
    return pick(rng, ["0", "1", "0.7", ".5", "3", "12.25", "0.1"])


def broken(rng: np.random.Generator, text: str) -> str:
    """The line with a few characters taken out, put in or doubled."""
    for _ in range(rng.integers(1, 4)):
        place = int(rng.integers(len(text) + 1))
        put = pick(rng, ["", "(", ")", "x", " and ", "&", "🙂", ".", "=", "not ", " votes", "é",
                         "toString", "__proto__"])  # fmt: skip  # what every JS object has
        text = text[:place] + put + text[place + int(rng.integers(3)) :]
    return text


def cases() -> list[dict[str, Any]]:
    rng, made = rng_for(0, "written"), []
    for number in range(1200):
        text = grown(rng, int(rng.integers(5)), True)
        if number % 3 == 0:
            text = broken(rng, text)
        nodes, filters = int(rng.integers(1, 12)), int(rng.integers(1, 16))
        norms = rng.integers(0, 5, filters) / 2 if number % 2 else rng.random(filters)
        made.append({"text": text, "nodes": nodes, "keep": int(rng.integers(1, filters + 1)),
                     "votes": rng.integers(0, nodes + 1, filters).tolist(),
                     "norms": norms.tolist()})  # fmt: skip
    return made


@pytest.mark.browser
def test_the_page_reads_a_written_rule_as_python_does(browser):
    """On 1200 lines, a third of them broken, with random votes: same filters, same sentences."""
    lines = cases()
    tab = browser.new_page()
    found = tab.evaluate(
        """([source, lines]) => {
            const keeps = new Function(`${source}; return ({ text, ...layer }) => {
                const { votes, norms } = layer;
                const order = (a, b) => votes[b] - votes[a] || norms[b] - norms[a];
                const best = [...votes.keys()].sort(order);
                try { return writtenKeeps(written(text), { ...layer, best }); }
                catch (error) { return error.message; }
            }`)();
            return lines.map(keeps);
        }""",
        [module("tally.js", "written.js"), lines],
    )
    tab.close()
    kept, refused = 0, set()
    for line, answer in zip(lines, found, strict=True):
        tally = tally_of(line["votes"], line["nodes"], line["norms"], line["keep"])
        try:
            expected = written_rule(line["text"])(tally).tolist()
        except MPFLError as error:
            expected = str(error).removeprefix("written rule, ")
            refused.add(re.sub('[0-9]+|".*?"', "", expected))
        else:
            kept += 0 < sum(expected) < len(expected)
        assert answer == expected, json.dumps(line)
    assert kept > 100 and len(refused) >= 6  # neither side is asked for the same again and again


@pytest.mark.browser
def test_the_page_knows_the_same_names(browser):
    tab = browser.new_page()
    found = tab.evaluate("(source) => new Function(`${source}; return FACTS`)()",
                         module("written.js"))  # fmt: skip
    tab.close()
    assert found == [*FACTS]
