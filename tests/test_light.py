"""Style sheets are cut to what the pages use, and lose nothing else."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

LIGHT: dict[str, Any] = runpy.run_path(
    str(Path(__file__).parent.parent / "book" / "_ext" / "light.py")
)


@pytest.mark.parametrize(
    ("css", "left"),
    [
        ("a{b:c}.used{d:e}.unused{f:g}", "a{b:c}.used{d:e}"),
        (".unused,.used>li,.used.unused{a:b}", ".used>li{a:b}"),
        ("@media print{.unused{a:b}.used{a:b}}", "@media print{.used{a:b}}"),
        ("p{a:b}@media print{.unused{a:b}}", "p{a:b}"),
        (".used:not(.unused){a:b}", ".used:not(.unused){a:b}"),
        (":root{--x:.5rem}.unused{width:.5rem}", ":root{--x:.5rem}"),
        ("@font-face{src:url(a.b)}", "@font-face{src:url(a.b)}"),
        ("@keyframes x{0%{a:b}to{c:d}}", "@keyframes x{0%{a:b}to{c:d}}"),
        (".tooltip-inner{a:b}/* .used{} */", ".tooltip-inner{a:b}"),
        ('html[data-theme="dark"] .used{a:b}', 'html[data-theme="dark"] .used{a:b}'),
    ],
)
def test_a_rule_stays_if_it_can_apply(css: str, left: str) -> None:
    once = LIGHT["only_used"](css, {"used"})
    assert once == left
    assert LIGHT["only_used"](once, {"used"}) == left


def test_the_rules_of_the_icon_font_go() -> None:
    css = "b{a:b}.fa-moon:before{c:d}.fa,.fas{e:f}@font-face{font-family:Font Awesome;src:x}i{g:h}"
    assert LIGHT["without_icons"](css) == "b{a:b}i{g:h}"
