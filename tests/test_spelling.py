"""The prose of the project is good English: pages, captions, README and docstrings.

codespell knows common misspellings; pyspellchecker has the words of English, and tests/words.txt
those of this project. Harper checks the grammar. A rule below is a slip that none of them finds.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import jupytext
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
FENCE = re.compile(r"^(`{3,}).*?^\1\s*$|^:{3,}.*$", re.S | re.M)
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
    return NOISE.sub(" ", FENCE.sub(" ", HEADER.sub("", text_of(path))))


def text_of(path: Path) -> str:
    """A page, or a module's docstrings without their examples."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        return text
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, kinds)]
    text = "\n\n".join(ast.get_docstring(node) or "" for node in nodes)
    return re.sub(r"^>>>.*?(?=\n\n|\Z)", "", text, flags=re.S | re.M)


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
    kept = ["--ignore-words-list", "beter,vermillion,findout"]
    count = codespell(*kept, *map(str, [*PAGES, *MODULES, *TESTS]))
    assert count == 0, capsys.readouterr().out


# Rules of Harper that are not for this project, each with its reason.
NOT_OURS = {
    "SpellCheck": "spelling is checked above",
    "UseTitleCase": "headings are sentences",
    "SentenceCapitalization": "a name of code may begin one",
    "OxfordComma": "a matter of house style",
    "NumericRangeEnDash": "docstrings are ASCII",
    "UseEllipsisCharacter": "docstrings are ASCII",
    "Spaces": "tables in docstrings are aligned",
    "LongSentences": "it counts a table as one sentence",
    "CompoundNouns": "data set, per cent and full text are two words here",
    "SplitWords": "scikit-learn, torchvision, dataclass",
    "MergeWords": "it reads symbols as words",
    "Overall": "over all nodes is not overall",
    "DisjointPrefixes": "over heads is not overheads",
    "MassNouns": "two trainings, two codings",
    "ExpandMemoryShorthands": "kB, MB and GB are what readers know",
    "ExpandTimeShorthands": "ms too",
    "ExpandControl": "Ctrl is on the key",
    "ExpandMinimum": "min is a function",
    "MissingPreposition": "it stumbles over words used as nouns",
    "WrongNegative": "untestable and debiased are words",
    "RegularIrregulars": "strided convolutions",
}
# What is right although Harper doubts it: its rule, and words around the place.
RIGHT = {
    ("ToTwoToo", "half to even"),
    ("ToTwoToo", "to strong"),
    ("MissingTo", "wanted or not"),
    ("MissingTo", "means come out"),
    ("MissingTo", "learn are"),
    ("OrthographicConsistency", "MACs"),
    ("OrthographicConsistency", "GRUs"),
    ("HavePronoun", "seeds 1 and 2 had"),
    ("HavePronoun", "`laptop` has"),
    ("CondenseAllThe", "all of the bill"),
    ("CapitalizePersonalPronouns", "bit *i*"),
    ("CapitalizePersonalPronouns", "the i-th"),
    ("PronounVerbAgreement", "bit *i*"),
    ("PhrasalVerbAsCompoundNoun", "loopback"),
    ("PhrasalVerbAsCompoundNoun", "layout"),
    ("DiscourseMarkers", "Otherwise filter"),
    ("FindOut", "find out alone"),
    ("SingleBe", "is *not* refused"),
    ("SingleBe", "as torch's is"),
    ("ClientOrServerSide", "server's side"),
    ("AdjectiveDoubleDegree", "one more honest node"),
    ("DoToDueTo", "do to a single run"),
    ("TheirToTheyre", "their two modes"),
    ("PronounInflectionBe", "shares of it are"),
    ("PronounInflectionBe", "that bear it are"),
    ("PronounInflectionBe", "Its own are"),
    ("ItsContraction", "its rank any"),
    ("ItsContraction", "its mean"),
    ("OneOfTheSingular", "one of the final"),
    ("CallThem", "Calls such as"),
    ("QuantifierNumeralConflict", "some sixty"),
    ("SimplePastToPastParticiple", "its bit is set"),
    ("AnA", "an mpfl.types.MPFLError"),
    ("MissingTo", "of images of a class"),
    ("MissingTo", "both ways to learn send"),
    ("ToTwoToo", "resized to uncut"),
    ("Everyone", "every one found again"),
    ("Everyone", "Every one of ten networks"),
    ("MissingDeterminer", "beside its weights"),
    ("OrthographicConsistency", "FiLM"),
    ("OrthographicConsistency", "| numpy |"),
}


def sentences(path: Path) -> str:
    """The prose with the names of code and links in their places, so that sentences stay whole."""
    cells = jupytext.read(path).cells if path.parent.name == "notebooks" else []
    said = [words for cell in cells if cell.cell_type == "code" for words in strings(cell.source)]
    text = FENCE.sub("\n", HEADER.sub("", text_of(path)))
    text = re.sub(r"^:\w+:.*$|^\([\w-]+\)=$", "", text, flags=re.M)
    text = re.sub(r"\{?:?[\w:]+[}:]`~?([^`<]*?)(?:\s*<[^>`]*>)?`", r"\1", text)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    return "\n\n".join([text.replace("``", "`"), *said])


def strings(code: str) -> list[str]:
    """The sentences that a cell shows: captions, questions, answers. A value is written as 5."""
    tree = ast.parse(re.sub(r"^[%!].*$", "", code, flags=re.M))
    nodes = list(ast.walk(tree))
    filled = [node.values for node in nodes if isinstance(node, ast.JoinedStr)]
    inside = {id(part) for parts in filled for part in parts}
    plain = [[node] for node in nodes if isinstance(node, ast.Constant) and id(node) not in inside]
    texts = (
        "".join(str(part.value) if isinstance(part, ast.Constant) else "5" for part in parts)
        for parts in [*plain, *filled]
    )
    return [text for text in texts if text.count(" ") > 4]


def doubts(texts: dict[str, str], folder: Path) -> list[str]:
    """What Harper finds in these texts, less what is not for this project and what is right."""
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "harper", "lint", "--quiet", "--format", "json", *texts]
    answer = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert answer.stdout, answer.stderr
    found = []
    for file in json.loads(answer.stdout):
        lines = texts[file["file"]].split("\n")
        for lint in file["lints"]:
            rule, column = lint["rule"], lint["column"] - 1
            before = " ".join([*lines[max(0, lint["line"] - 3) : lint["line"] - 1], ""])
            after = " ".join(["", *lines[lint["line"] : lint["line"] + 2]])
            at = len(before) + column
            around = (before + lines[lint["line"] - 1] + after)[max(0, at - 60) : at + 60]
            around = " ".join(around.split())
            if rule in NOT_OURS or any(r == rule and words in around for r, words in RIGHT):
                continue
            found.append(f"{file['file']}: {rule}: {around}")
    return found


def test_the_grammar_is_good(tmp_path: Path) -> None:
    more = [ROOT / name for name in ("CHANGELOG.md", "CONTRIBUTING.md", "data/README.md")]
    paths = [*PAGES, *MODULES, *more]
    names = ["-".join(path.relative_to(ROOT).parts).replace(".py", ".py.md") for path in paths]
    assert doubts(dict(zip(names, map(sentences, paths), strict=True)), tmp_path) == []


def test_a_fault_of_grammar_is_found(tmp_path: Path) -> None:
    found = doubts({"page.md": "Every node send one bit. The server count an vote."}, tmp_path)
    assert any("AnA" in line for line in found)
