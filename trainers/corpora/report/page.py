"""What a page is made of, and its HTML: `page.html.jinja` says how it looks."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainers.corpora.report.plots import DARK, LIGHT

ROWS = 40
"""Of a table that is open from the start."""
ABOUT_SAMPLES = (
    "Beginnings of texts as they were after cleaning, chosen by hash. "
    "Characters that cannot be seen stand as their code points."
)


@dataclasses.dataclass(frozen=True)
class Plot:
    caption: str
    svg: str


@dataclasses.dataclass(frozen=True)
class Table:
    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    names: int = 1
    """How many columns, from the left, are words."""
    folded: bool = False


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
    title: str, artifact_id: str, tiles: Mapping[str, str], sections: Sequence[Section]
) -> str:
    """The page as HTML; `tiles` are its headline figures."""
    html: str = _template().render(
        title=title,
        artifact_id=artifact_id,
        tiles=tiles,
        sections=sections,
        light=LIGHT,
        dark=DARK,
    )
    return html


@functools.cache
def _template() -> Any:
    import jinja2

    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = Path(__file__).with_name("page.html.jinja")
    return environment.from_string(template.read_text(encoding="utf-8"))
