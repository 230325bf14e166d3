"""What `raymill check` tells of labels before anything runs."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import RecipeError
from cluster.recipe.loading import load, warnings

RECIPE = """\
name: demo
corpora:
  sources: {rows: {path: rows.jsonl}}
finetune: {task: ner, base: some/model}
"""
ANNA, ROME, NONE = [[0, 4, "PER"]], [[5, 9, "LOC"]], list[Any]()


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("r.yaml").write_text(RECIPE)


def write(*rows: Mapping[str, Any], name: str = "rows.jsonl") -> None:
    Path(name).write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def write_entities(*entities: list[Any]) -> None:
    write(*({"text": f"Anna Rome {n}", "entities": one} for n, one in enumerate(entities)))


def refused(*overrides: str) -> str:
    try:
        load("r.yaml", overrides, check_files=True)
    except RecipeError as error:
        return str(error)
    return ""


def told(*overrides: str) -> list[str]:
    return warnings(load("r.yaml", overrides, check_files=True))


def test_a_label_that_is_not_in_the_list_is_refused_with_its_row() -> None:
    write_entities(*[ANNA] * 20, ROME)
    here = f"finetune.labels: {Path.cwd()}/rows.jsonl:21: label 'LOC' is not in finetune.labels ("
    assert f"{here}PER); mend the file or the list" in refused("finetune.labels=[PER]")
    assert told("finetune.labels=[PER, LOC]") == told() == []
    assert told("finetune.label_map={PER: person, LOC: place}") == []
    write(*({"text": f"text {n}", "label": "ab"[n % 2]} for n in range(40)))
    classify = "finetune={base: some/model, labels: [a, c]}"
    assert "rows.jsonl:2: label 'b' is not in finetune.labels (a, c)" in refused(classify)


def test_rows_without_any_entity_are_refused_or_told() -> None:
    write_entities(*[NONE] * 20)
    hint = "no rows have entities; see finetune.tags and finetune.label_map"
    assert refused().endswith(f"r.yaml:3: corpora.sources: {hint}")
    write_entities(*[NONE] * 1_001)
    assert told() == [f"corpora.sources: of the first 1,000 rows {hint}"]
    write_entities(*[ANNA] * 20)
    assert "no rows have entities called nr, ns" in refused("finetune.label_map={nr: x, ns: y}")


def test_labels_that_the_recipe_names_and_no_row_has_are_told() -> None:
    write_entities(*[ANNA] * 20)
    named = "none has the label 'x', which finetune.labels or finetune.label_map names"
    assert told("finetune.label_map={PER: person, X: x}") == [
        f"corpora.sources: of 20 rows {named}"
    ]
    assert told("finetune.labels=[PER, x]") == [f"corpora.sources: of 20 rows {named}"]
    assert told("finetune.label_map={PER: person, X: person}") == [], "as other data may have it"


def test_labels_that_are_elsewhere_are_not_missed() -> None:
    write_entities(*[NONE] * 20)
    remote = "corpora.sources.more={path: s3://bucket/more.jsonl}"
    assert refused(remote) == ""
    named = "corpora.sources.more={path: s3://bucket/more.jsonl, columns: {entities: label}}"
    assert refused(named) == ""


def test_cluener_and_doccano_need_no_key() -> None:
    """Where a column `label` has entities; one of classes is none of the task."""
    write(*({"text": f"Anna {n}", "label": {"PER": {"Anna": [[0, 3]]}}} for n in range(20)))
    assert refused() == ""
    assert told("finetune.labels=[PER, LOC]")[0].startswith("corpora.sources: of 20 rows none has")
    write(*({"text": f"Anna {n}", "label": ANNA if n else []} for n in range(20)))
    assert refused() == ""
    for label in ("good", ["good", "new"]):
        write(*({"text": f"Anna {n}", "label": label} for n in range(20)))
        assert "needs rows with tokens and tags, or text and entities" in refused()


@pytest.mark.parametrize(
    ("lines", "key"),
    [
        ("Anna B-PER\nsings O\n\nin O\n", "format: conll"),
        ("-DOCSTART- -X- O\n\nNew York\tNP\tS-LOC\n", "format: conll"),
        ("江/nr 泽民/nr 说/v\n好/a\n", "tagged: true"),
        ("Anna sings\nof A and O\n", None),
        ("either/or\na text of words\n", None),
    ],
)
def test_lines_that_look_like_words_with_tags_are_told(lines: str, key: str | None) -> None:
    """Beside a source that has rows of the task."""
    write_entities(*[ANNA] * 20)
    Path("more.txt").write_text(lines)
    found = told("corpora.sources.more.path=more.txt")
    assert [line.partition("; ")[2] for line in found] == ([f"set `{key}`"] if key else [])
    alone = refused("corpora.sources={more: {path: more.txt}}")
    assert "of a text file `format: conll` or `tagged: true` (word/TAG) says that it" in alone


@pytest.mark.parametrize(
    ("lines", "key"),
    [("Anna B-PER\nsings{n} O\n\n", "format: conll"), ("Anna/B-PER sings{n}/O\n", "tagged: true")],
)
def test_a_text_file_with_that_key_has_rows_of_the_task(lines: str, key: str) -> None:
    Path("more.txt").write_text("".join(lines.format(n=n) for n in range(20)))
    assert told(f"corpora.sources={{more: {{path: more.txt, {key}}}}}") == []
