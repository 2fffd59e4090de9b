"""The prose of the project is spelled well: pages, README and docstrings.

codespell knows common misspellings; pyspellchecker has the words of English, and tests/words.txt
those of this project. A rule below is a slip that neither finds.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest
from codespell_lib import main as codespell
from spellchecker import SpellChecker

ROOT = Path(__file__).resolve().parent.parent
WORDS = ROOT / "tests" / "words.txt"
PAGES = sorted(
    [ROOT / "README.md", *(ROOT / "notebooks").glob("*.md"), *(ROOT / "book").rglob("*.md")]
)
MODULES = sorted((ROOT / "mpfl").rglob("*.py"))
TESTS = sorted((ROOT / "tests").glob("*.py"))

# What is not prose: headers, code, formulas, roles, links, addresses, names of code.
HEADER = re.compile(r"\A---\n.*?\n---\n", re.S)
FENCE = re.compile(r"^(`{3,}|:{3,}).*?^\1\s*$", re.S | re.M)
NOISE = re.compile(
    r"``.*?``|`[^`]*`|:\w+:|\{[^}]*\}|\]\([^)]*\)|<[^>]*>|https?://\S+|\S*[_/\\@=]\S*|\$[^$]*\$"
    r"|^\([\w-]+\)=$|^:\w+: .*$|^    .*$|^ *(?:>>>|\.\.\.).*$|\b\w+\.\w+\b",
    re.M | re.S,
)
SLIPS = {
    "a word twice": re.compile(r"\b([a-z]+) \1\b(?<!had had)(?<!that that)"),
    "a before a vowel": re.compile(r"\ba (?=[aeio][a-z]{2})(?!one|once|eu)\w+"),
    "an before a consonant": re.compile(r"\ban (?=[bcdfgjklmnpqrstvwxyz][a-z]{2})\w+"),
    "a contraction": re.compile(r"\b\w+(?:n't|'re|'ve|'ll)\b"),
}


def prose(path: Path) -> str:
    """What a reader reads of a page, or of a module's docstrings."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        tree = ast.walk(ast.parse(text))
        kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
        text = "\n\n".join(
            ast.get_docstring(node) or "" for node in tree if isinstance(node, kinds)
        )
        text = re.sub(r"^>>>.*?(?=\n\n|\Z)", "", text, flags=re.S | re.M)
    return NOISE.sub(" ", FENCE.sub(" ", HEADER.sub("", text)))


@cache
def known() -> SpellChecker:
    words = SpellChecker()
    words.word_frequency.load_words(WORDS.read_text(encoding="utf-8").split())
    return words


def unknown(text: str) -> set[str]:
    """Words that no list has; not names, which have capitals, nor codes, which have digits."""
    words = set(re.findall(r"(?<![\w'-])[a-z]{3,}(?='s\b|(?![\w'-]))", text.replace("’", "'")))
    return set(known().unknown(words))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_page_is_spelled_well(path: Path) -> None:
    text = prose(path)
    assert unknown(text) == set(), "mend these, or add what is right to tests/words.txt"
    slips = [f"{what}: {found[0]}" for what, rule in SLIPS.items() for found in rule.finditer(text)]
    assert slips == []


def test_docstrings_are_spelled_well() -> None:
    found = {str(path.relative_to(ROOT)): unknown(prose(path)) for path in MODULES}
    assert {path: words for path, words in found.items() if words} == {}


def test_no_common_misspelling(capsys: pytest.CaptureFixture[str]) -> None:
    kept = ["--ignore-words-list", "beter,vermillion"]
    count = codespell(*kept, *map(str, [*PAGES, *MODULES, *TESTS]))
    assert count == 0, capsys.readouterr().out
