"""A widget that is alive in a notebook and, with the same code, on a published page.

With a kernel it is an anywidget: Python sees what the reader sets. A published page has no
kernel; there the widget's HTML brings its module and its state with it, and nothing else is
asked for, so that the page works from the disk too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from itertools import count
from typing import Any, ClassVar, NamedTuple

import anywidget
import traitlets

from mpfl.show import looks
from mpfl.types import MPFLError

_numbers = count(1)


def source(name: str) -> str:
    """A file that stands beside this one."""
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def module(*names: str) -> str:
    """A widget's ES module: what all of them share, what some do, then its own ``render``."""
    return "".join(map(source, ("page.js", *names)))


def stylesheet(own: str | None = None) -> str:
    """The style of every widget: the colours of the figures by name, then ``page.css``.

    ``own`` is a file of the widget's own that follows.
    """
    names = ("blue", "sky-blue", "green", "orange", "vermillion")
    colours = {name: getattr(looks, name.upper().replace("-", "_")) for name in names}
    named = " ".join(f"--mpfl-{name}: {colour};" for name, colour in colours.items())
    return f".mpfl-play {{ {named} }}\n" + source("page.css") + (source(own) if own else "")


class Between(NamedTuple):
    """The numbers that a setting may be, both ends among them."""

    low: float
    high: float


class Playable(anywidget.AnyWidget):
    """Base of the widgets: names its module, and shows itself as HTML as well.

    A subclass sets ``_esm = module(...)`` and its traits; those with ``sync=True`` are the
    module's state. ``kind`` is what an error calls it. ``label`` says what it is, for those who
    do not see it.
    """

    _css = stylesheet()
    kind: ClassVar[str]
    label: ClassVar[str]

    @classmethod
    def check(
        cls, setting: Mapping[str, Any], controls: Mapping[str, Sequence[Any] | Between]
    ) -> None:
        """Refuse a setting that the reader could not make.

        ``controls`` holds, for each name, the numbers or the choices that its control has. Of a
        trait that is a list, every entry is a choice. Raises
        :class:`~mpfl.types.MPFLError` naming what there is instead.
        """
        for name, value in setting.items():
            if name not in controls:
                raise MPFLError(f"{cls.kind}: no setting {name!r}; there are {', '.join(controls)}")
            control = controls[name]
            if isinstance(control, Between):
                if not (isinstance(value, int | float) and control.low <= value <= control.high):
                    raise MPFLError(
                        f"{cls.kind}: {name} is {value!r}; give {control.low} to {control.high}"
                    )
                continue
            choices = ", ".join(map(str, control))
            many = isinstance(cls.class_traits()[name], traitlets.List)
            for choice in value if many else [value]:
                if choice not in control:
                    raise MPFLError(f"{cls.kind}: {name} is {choice!r}; choose one of {choices}")

    def state(self) -> dict[str, Any]:
        """The values of the widget's own traits, as the module reads them."""
        own = self.trait_names(sync=True)
        shared = set(anywidget.AnyWidget.class_trait_names()) | {"_esm", "_css", "_anywidget_id"}
        return {name: getattr(self, name) for name in own if name not in shared}

    def without_script(self) -> str:
        """What is to be read, as HTML, where no script runs."""
        return f"<p>{escape(self.label)}. It moves by JavaScript, which is off here.</p>"

    def inside(self) -> str:
        """What the box holds in the page itself: for links to it, and without a script."""
        return f"<noscript>{self.without_script()}</noscript>"

    def html(self) -> str:
        """The widget for a page without a kernel: a box, its style, its state and its module."""
        here = f"mpfl-{type(self).__name__.lower()}-{next(_numbers)}"
        state = json.dumps({"label": self.label} | self.state()).replace("<", "\\u003c")
        code = self._esm.replace("export default", "const widget =", 1)
        return (
            f'<div id="{here}" class="mpfl-play">{self.inside()}</div>\n'
            f"<style>{self._css}</style>\n"
            f'<script type="module">\n{code}\n'
            f'widget.render({{ model: still({state}), el: document.getElementById("{here}") }});\n'
            "</script>"
        )

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is not None:
            bundle[0]["text/html"] = self.html()
        return bundle
