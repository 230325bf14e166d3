"""What `raymill check` tells of the rows that it understood."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cluster.recipe.loading import described, load
from trainers.corpora.reading import path_checks

RECIPE = """\
name: demo
corpora:
  sources: {rows: {path: rows.jsonl}}
finetune: {task: chat, base: some/model}
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("r.yaml").write_text(RECIPE)


def told(rows: list[Mapping[str, Any]], *overrides: str) -> list[str]:
    Path("rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return described(load("r.yaml", overrides, check_files=True))


def rows(**of: Any) -> list[Mapping[str, Any]]:
    return [{name: made(number) for name, made in of.items()} for number in range(30)]


@pytest.mark.parametrize(
    ("made", "columns"),
    [
        (
            rows(instruction="Say {}".format, output="{}.".format),
            "prompt (column 'instruction'), completion (column 'output')",
        ),
        (
            rows(conversations=lambda n: [f"{n}?", "Yes."], system="Be {}.".format),
            "messages (column 'conversations'), system",
        ),
        (rows(prompt="{}?".format, completion="{}.".format), "prompt, completion"),
    ],
)
def test_the_columns_that_make_rows_are_named(made: Any, columns: str) -> None:
    assert told(made) == [f"rows: {columns}; of 30 rows dropped: none"]


def test_rows_that_a_run_would_drop_are_counted_by_reason() -> None:
    made = rows(prompt="{}?".format, completion="{}.".format)
    made[3] = {"prompt": "Why?", "completion": " "}
    made[4] = {"prompt": 7, "completion": "."}
    (line,) = told(made, "corpora.clean.max_unreadable=0.1")
    assert line.endswith(
        "of 30 rows dropped: an empty answer 1, prompt is not what the task needs 1"
    )


def test_of_many_rows_the_first_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(path_checks, "ROWS", 20)
    (line,) = told(rows(prompt="{}?".format, completion="{}.".format))
    assert line.endswith("of the first 20 rows dropped: none")


def test_what_is_elsewhere_is_not_looked_at() -> None:
    columns = "{prompt: p, completion: c}"
    (line,) = told([], f"corpora.sources={{rows: {{path: s3://b/x.jsonl, columns: {columns}}}}}")
    assert line == (
        "rows: prompt (column 'p'), completion (column 'c'); not on this disk, so not looked at"
    )
