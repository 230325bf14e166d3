"""A row of a file, or what is wrong with it."""

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from cluster.errors import UserError
from cluster.recipe.section import nearest

MAX_ROW_BYTES = 16 << 20
"""A longer row is skipped, never held: the longest books have 5 MB, and cleaning takes about ten
times a row's bytes of memory. What is longer is as a rule a file that is not made of lines."""
SHOWN_COLUMNS = 20


class Problem(NamedTuple):
    """Why a row cannot be read."""

    reason: str
    """What is counted."""
    detail: str = ""
    """What is told besides of the first."""

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}" if self.detail else self.reason


NOT_UTF8 = Problem("not UTF-8", "write the file anew, with its texts in UTF-8")
"""Of a value in a file that has no encoding of its own, such as Parquet."""


class Row(NamedTuple):
    where: str
    """`file:line`, or `file:byte N` in a later range of a file."""
    columns: Mapping[str, Any] | None
    """None if there is a problem. A value too may be a Problem, which matters if it is wanted."""
    problem: Problem | None = None
    share: float | None = None
    """How much of its part is read with it, from 0 to 1; None where that takes more than a look."""


Rows = Iterator[Row]
Wanted = Mapping[str, str]
"""The columns to read, by what they are for; all columns if there are none."""


def too_long() -> Problem:
    return Problem(f"row over {MAX_ROW_BYTES / (1 << 20):g} MiB")


def shown_columns(columns: Collection[str]) -> str:
    """For people: not more than anyone reads."""
    more = ", ..." if len(columns) > SHOWN_COLUMNS else ""
    return ", ".join(itertools.islice(columns, SHOWN_COLUMNS)) + more


def no_column(role: str, column: str, columns: Collection[str], key: str | None = None) -> Problem:
    """With the columns that there are, and the nearest to the one that is not; `key` is where it is
    set, if not under `columns`."""
    shown = shown_columns(columns)
    is_several = len(columns) == 1 and column in shown
    several = "; set `delimiter` if these are several"
    hint = several if is_several else nearest(column, columns, cutoff=0.6)
    detail = f"set as `{key or f'columns.{role}'}`; columns: {shown}{hint}"
    return Problem(f"no column {column!r}", detail)


def refuse_columns(
    file: str, wanted: Wanted, columns: Sequence[str], is_whole: bool = False
) -> None:
    """Raises UserError for a wanted column that no row of the file can have, and for one that it
    has more than once; if the rows are to be whole, for any that it has more than once."""
    for role, column in wanted.items():
        if column not in columns:
            raise UserError(f"{file}: {no_column(role, column, columns)}")
    for column in columns if is_whole else wanted.values():
        if columns.count(column) > 1:
            raise UserError(
                f"{file}: {columns.count(column)} columns are called {column!r}; rename all but one"
            )
