"""What a page is made of, and its HTML: `page.html.jinja` says how it looks. Whole numbers in it
are written with commas, and characters that cannot be seen as their code points."""

import dataclasses
import functools
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from trainers.corpora.report.dots import Dots

ROWS = 40
"""Of a table that is open from the start."""
ABOUT_SAMPLES = (
    "Beginnings of texts as they were after cleaning, chosen by hash. "
    "Characters that cannot be seen stand as their code points."
)
UNSEEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode categories: control, format, lone surrogate, line and paragraph separator."""
JOINERS = "\u200c\u200d"
"""Invisible, but part of how Persian, Indic scripts and emoji are written."""
MARKS = {
    "kept": "true and not found",
    "dropped": "found and not true",
    "near": "both, with another label or boundary",
    "before": "right",
}
"""What the colours of a marked text say of its parts."""


class Tile(NamedTuple):
    """A headline figure with a line below."""

    value: str
    note: str


class Piece(NamedTuple):
    """Of a marked text."""

    text: str
    colour: str = ""
    """One of MARKS, or none."""
    note: str = ""
    """Stands behind it."""


@dataclasses.dataclass(frozen=True)
class Marked:
    """A text, parts of which are marked, as a cell of a table."""

    pieces: Sequence[Piece]


@dataclasses.dataclass(frozen=True)
class Bar:
    label: str
    """Empty for a further bar of the same thing."""
    value: float
    note: str
    """Stands at the bar's end."""
    colour: str
    """A CSS variable of the page."""


@dataclasses.dataclass(frozen=True)
class Plot:
    """Horizontal bars, or dots with whiskers, or a picture."""

    caption: str
    bars: Sequence[Bar] = ()
    dots: Dots | None = None
    svg: str = ""


@dataclasses.dataclass(frozen=True)
class Table:
    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str | int | Marked]]
    names: int = 1
    """How many columns, from the left, are words."""
    folded: bool = False
    texts: bool = False
    """Whether the first column is texts of any length. A narrow screen shows each row of such a
    table as lines."""
    shades: Sequence[Sequence[float]] = ()
    """Of each cell that is no word, how dark it is: to 1 in the colour of what is kept, and to -1
    in that of what is dropped."""


@dataclasses.dataclass(frozen=True)
class Samples:
    reason: str
    documents: int
    texts: Sequence[tuple[str, str]]
    """Source and text."""


@dataclasses.dataclass(frozen=True)
class Section:
    title: str
    about: str = ""
    legend: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Colours to what they mean."""
    plots: Sequence[Plot] = ()
    tables: Sequence[Table] = ()
    samples: Sequence[Samples] = ()


def render(
    title: str, artifact_id: str, tiles: Mapping[str, str | int | Tile], sections: Sequence[Section]
) -> str:
    """The page as HTML; `tiles` are its headline figures."""
    html: str = _template().render(
        title=title, artifact_id=artifact_id, tiles=tiles, sections=sections
    )
    return html


def share(part: int, whole: int) -> str:
    if not whole:
        return "–"
    return "<0.1%" if 0 < part < whole / 1000 else f"{part / whole:.1%}"


@functools.cache
def _template() -> Any:
    import jinja2
    import markupsafe

    def written(value: Any) -> Any:
        if isinstance(value, int):
            return f"{value:,}"
        is_text = isinstance(value, str) and not isinstance(value, markupsafe.Markup)
        return "".join(map(_visible, value)) if is_text else value

    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, finalize=written
    )
    template = Path(__file__).with_name("page.html.jinja")
    return environment.from_string(template.read_text(encoding="utf-8"))


def _visible(character: str) -> str:
    is_seen = unicodedata.category(character) not in UNSEEN or character in f"\n{JOINERS}"
    return character if is_seen else f"⟨U+{ord(character):04X}⟩"
