"""The published HTML of a widget: its state without a browser, and its page in Chromium."""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mpfl.show.widgets.playable import Playable


def state_in(html: str) -> dict[str, Any]:
    """The state that a widget's HTML brings with it."""
    found = re.search(r"model: still\((\{.*\})\), el: ", html)
    assert found is not None
    return json.loads(found[1])


class Page:
    """A widget's published HTML, opened from the disk in Chromium."""

    def __init__(self, tab: Any, widget: Playable, folder: Path) -> None:
        self.tab, self.faults = tab, list[str]()
        tab.on("console", lambda m: self.faults.append(m.text) if m.type == "error" else None)
        tab.on("pageerror", lambda error: self.faults.append(str(error)))
        tab.on(
            "request",
            lambda request: (
                None
                if request.url.startswith(("file:", "data:"))
                else self.faults.append(request.url)
            ),
        )
        path = folder / "page.html"
        path.write_text(
            '<!doctype html><html lang="en" data-theme="light"><meta charset="utf-8">'
            "<script>heard = []; onkeydown = (event) => heard.push(event.key)</script>"
            + widget.html(),
            encoding="utf-8",
        )
        tab.goto(path.as_uri())
        self.box = tab.locator(".mpfl-play")
        self.box.locator("summary, button").first.wait_for()

    def data(self, name: str) -> str:
        return self.box.evaluate("(box, name) => box.dataset[name]", name)

    def control(self, label: str) -> Any:
        return self.box.get_by_label(label, exact=True)

    def sweep(self, settings: Iterable[Mapping[str, Any]]) -> list[dict[str, str]]:
        """Set controls by their labels as a script does, setting by setting, and read each time
        what the page says that it shows."""
        return self.box.evaluate(
            """(box, settings) => settings.map((values) => {
                const labels = [...box.querySelectorAll("label")];
                for (const [text, value] of Object.entries(values)) {
                    const { control } = labels.find((label) => label.textContent === text);
                    if (control.value === value) continue;
                    control.value = value;
                    control.dispatchEvent(new Event("input", { bubbles: true }));
                }
                return { ...box.dataset };
            })""",
            [{label: str(value) for label, value in each.items()} for each in settings],
        )

    def set(self, values: Mapping[str, Any]) -> dict[str, str]:
        """One setting of :meth:`sweep`."""
        return self.sweep([values])[0]

    def press(self, label: str, *keys: str) -> str:
        control = self.control(label)
        control.focus()
        for key in keys:
            self.tab.keyboard.press(key)
        return control.input_value()

    def drag(self, label: str, share: float) -> str:
        """Click a slider at a share of its length."""
        control = self.control(label)
        control.scroll_into_view_if_needed()
        place = control.bounding_box()
        y = place["y"] + place["height"] / 2
        self.tab.mouse.click(place["x"] + share * place["width"], y)
        return control.input_value()

    def keys_outside(self) -> list[str]:
        return self.tab.evaluate("heard")
