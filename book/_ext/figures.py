"""Figures stand in the page as SVG and follow its theme.

A notebook's figure is an SVG on white paper, as Jupyter shows it. Here its paper is taken away,
what is black or grey takes the colours of the page (``--plot-*`` in book/assets/mpfl.css), its text
the page's type, and what a browser does not need goes: a figure weighs about a third.
"""

from __future__ import annotations

import html
import re
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

SVG = "{http://www.w3.org/2000/svg}"
HREF = "{http://www.w3.org/1999/xlink}href"
PICTURE = re.compile(r'<img alt="([^"]*)"[^>]*? src="[^"]*_images/([0-9a-f]{64}\.svg)"[^>]*/>')
# The smallest type that is read on a telephone: a figure that would be smaller scrolls in its box.
SMALLEST = 9  # px, as the tests ask
LARGER = 1.45  # pixels for a point, if there is room: type of 11 points is that of the text
INKS = [(0x45, "ink"), (0x99, "soft"), (0xDA, "line"), (0xFE, "faint"), (0xFF, "paper")]
DARK = 0.2  # of less luminance, a hue is hard to see on a dark page, and lighter there


def ink(colour: str) -> str:
    """The page's colour for one of a figure's: greys turn round with the theme, hues stay hues."""
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    if max(red, green, blue) - min(red, green, blue) < 10:
        name = next(name for most, name in INKS if red <= most)
        return f"var(--plot-{name})"
    linear = [(part / 255) ** 2.2 for part in (red, green, blue)]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return f"color-mix(in oklab,{colour} var(--plot-pure),white)" if luminance < DARK else colour


def inline(svg: str, alt: str, key: str) -> str:
    """A figure of Matplotlib as part of a page; ``key`` keeps its names apart from all others'."""
    root = ET.fromstring(svg)
    for each in root.findall(f"{SVG}metadata"):
        root.remove(each)
    for each in root.iter(f"{SVG}defs"):
        for style in each.findall(f"{SVG}style"):
            each.remove(style)
    take_paper_away(root)
    used = set(re.findall(r'(?:url\(#|href="#)([\w.-]+)', svg))
    styles: Counter[str] = Counter()
    for each in root.iter():
        words = each.tag in (f"{SVG}text", f"{SVG}tspan")
        each.text, each.tail = ((each.text or "").strip("\n") if words else ""), ""
        if (name := each.attrib.pop("id", "")) in used:
            each.set("id", f"{key}{name}")
        for attribute in ("d", "transform", "x", "y", "width", "height"):
            if each is not root and attribute in each.attrib:
                each.set(attribute, shorter(each.get(attribute, "")))
        if to := each.attrib.pop(HREF, ""):  # a mark drawn again, or a picture of pixels
            each.set("href", f"#{key}{to[1:]}" if to.startswith("#") else to)
        if "clip-path" in each.attrib:
            each.set("clip-path", each.attrib["clip-path"].replace("#", f"#{key}"))
        if style := each.attrib.pop("style", ""):
            if words:  # white words stand on a filled cell, which keeps its colour
                style = style.replace("#ffffff", "white")
            style = re.sub(r"#[0-9a-f]{6}", lambda found: ink(found[0]), style)
            style = re.sub(r"font-family:[^;]*;?", "", style)
            each.set("class", style)
            styles[style] += 1
    names = {style: f"{key}{number}" for number, (style, _) in enumerate(styles.most_common())}
    for each in root.iter():
        if each is not root and "class" in each.attrib:
            each.set("class", names[each.attrib["class"]])
    unwrap(root)
    sizes = [float(size) for size in re.findall(r"font-size: ([\d.]+)px", " ".join(styles))]
    wide = float(root.attrib["viewBox"].split()[2])
    least = min(round(wide * SMALLEST / min(sizes)) if sizes else 0, round(wide * LARGER))
    rules = "".join(f".{name}{{{tidy(style)}}}" for style, name in names.items())
    body = "".join(ET.tostring(each, encoding="unicode") for each in root)
    body = re.sub(r' xmlns:\w+="[^"]*"', "", body).replace("ns0:", "").replace(" />", "/>")
    size = f"width:{wide * LARGER:.0f}px;min-width:{least}px"
    return (
        f'<span class="plot"><svg role="img" aria-label="{html.escape(html.unescape(alt))}"'
        f' viewBox="{root.attrib["viewBox"]}" style="{size}">'
        f"<style>{rules}</style>{body}</svg></span>"
    )


def take_paper_away(root: ET.Element) -> None:
    """The ground of the figure and of its panels."""
    for group in root.iter(f"{SVG}g"):
        if group.get("id", "").startswith(("figure_", "axes_")):
            first = group.find(f"{SVG}g")
            if first is not None and first.get("id", "").startswith("patch_"):
                path = first.find(f"{SVG}path")
                if path is not None and path.get("style", "").startswith("fill: #ffffff"):
                    group.remove(first)


def shorter(numbers: str) -> str:
    """Coordinates to a hundredth, on one line."""
    at = re.sub(
        r"-?\d+\.\d{3,}", lambda found: f"{float(found[0]):.2f}".rstrip("0").rstrip("."), numbers
    )
    return re.sub(
        r"\s+(?=[A-Za-z])|(?<=[A-Za-z])\s+", "", at.replace("rotate(-0 ", "rotate(0 ")
    ).strip()


def tidy(style: str) -> str:
    """A style as short as it can be written."""
    return re.sub(r"\s*([:;,])\s*", r"\1", style.strip("; "))


def unwrap(parent: ET.Element) -> None:
    """Take away groups that say nothing."""
    for each in parent:
        unwrap(each)
    flat = []
    for each in parent:
        flat += list(each) if each.tag == f"{SVG}g" and not each.attrib else [each]
    flat = [each for each in flat if len(each) or each.attrib or each.text]
    parent[:] = flat


def draw(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object) -> None:
    """Put every figure of a page into it."""
    files = {name: uri for uri, name in app.builder.images.items()}
    count = 0

    def put(found: re.Match[str]) -> str:
        nonlocal count
        alt, name = found.groups()
        svg = (Path(app.srcdir) / files[name]).read_text(encoding="utf-8")
        if "matplotlib.org" not in svg:
            return found[0]
        count += 1
        return inline(svg, alt, f"p{count}-")

    if "body" in context:
        context["body"] = PICTURE.sub(put, context["body"])


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("html-page-context", draw)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
