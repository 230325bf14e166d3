"""Reads a page as a browser does, and refuses what one would have to mend."""

import html.parser
import re
import xml.etree.ElementTree as ElementTree

VOID = {"meta", "br", "img", "link", "input"}
SVG = "{http://www.w3.org/2000/svg}"


class Read(html.parser.HTMLParser):
    """The tags, attributes and text of a page whose tags are all closed in order."""

    def __init__(self, page: str):
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.cells: list[str] = []
        self._open: list[str] = []
        self._texts: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []
        self.text = "\n".join(self._texts)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "style":
            return
        self._texts.append(data.strip())
        if self._open and self._open[-1] == "td":
            self.cells.append(data)


def plots(page: str) -> list[ElementTree.Element]:
    return [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]


def texts(plot: ElementTree.Element) -> list[str]:
    return [element.text or "" for element in plot.iter(f"{SVG}text")]


def bars(plot: ElementTree.Element) -> list[tuple[float, float]]:
    """Width and height of every bar, in the order they were drawn."""
    found = []
    for path in plot.iter(f"{SVG}path"):
        if "fill: var" in path.get("style", ""):
            x, y = zip(*re.findall(r"[ML] ([-\d.]+) ([-\d.]+)", path.get("d", "")), strict=True)
            width, height = (max(map(float, side)) - min(map(float, side)) for side in (x, y))
            found.append((width, height))
    return found
