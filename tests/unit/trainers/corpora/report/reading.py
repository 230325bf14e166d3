"""Reads a page as a browser does, and refuses what one would have to mend."""

import html.parser

VOID = {"meta", "br", "img", "link", "input"}


class Read(html.parser.HTMLParser):
    """The tags, attributes and text of a page whose tags are all closed in order."""

    def __init__(self, page: str):
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.cells: list[str] = []
        self.plots: list[dict[str, str]] = []
        """Of each figure, the notes of its bars by their labels."""
        self._open: list[str] = []
        self._texts: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []
        self.text = "\n".join(self._texts)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag == "figure":
            self.plots.append({})
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
        match self._open[-1:]:
            case ["td"]:
                self.cells.append(data)
            case ["b"]:
                self._label = data
            case ["span"] if "figure" in self._open:
                self.plots[-1][self._label] = data
