"""What `raymill check` refuses of splits is what a run refuses, and nothing that it might take."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from cluster.errors import RecipeError
from cluster.recipe.loading import load
from trainers.corpora.cleaning.documents import text_key
from trainers.corpora.config import Split
from trainers.corpora.examples.splits import SHARES, SPLITS, STRENGTH, Rows, split
from trainers.corpora.steps.shard_assignment import is_held_out

RECIPE = """\
name: demo
corpora:
  sources:
    mine: {path: "mine.*"}
"""
FINETUNE = "finetune={base: some/model}"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("r.yaml").write_text(RECIPE)


def texts(count: int) -> list[str]:
    return [f"text {number}" for number in range(count)]


def write_lines(lines: Sequence[str]) -> None:
    Path("mine.txt").write_text("".join(f"{line}\n" for line in lines))


def write_rows(labels: Sequence[object]) -> None:
    rows = [{"text": f"text {n}", "label": label} for n, label in enumerate(labels)]
    Path("mine.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def told(*overrides: str) -> str:
    try:
        load("r.yaml", overrides, check_files=True)
    except RecipeError as error:
        return str(error)
    return ""


def test_a_corpus_of_three_lines_holds_none_out() -> None:
    write_lines(texts(3))
    assert told() == (
        "r.yaml:3: corpora.sources: no documents left for validation of 3; give more, or raise "
        "corpora.validation"
    )
    assert told(FINETUNE, "corpora.sources.mine.label=a").count("no documents left") == 0, (
        "nothing is pretrained"
    )


@pytest.mark.parametrize("count", [1, 2, 5, 20, 50, 100])
@pytest.mark.parametrize("key", ["corpora.validation", "corpora.sources.mine.validation"])
def test_pretraining_is_refused_if_and_only_if_no_text_draws_a_split(count: int, key: str) -> None:
    write_lines(texts(count) * 2)
    keys = np.array([*map(text_key, texts(count))], np.uint64)
    for share in (0.01, 0.1, 0.49):
        held_out = is_held_out(keys, 17, share)
        empty = [name for name, some in (("train", ~held_out), ("validation", held_out))
                 if not some.any()]  # fmt: skip
        found = told(f"{key}={share}")
        assert [name for name in ("train", "validation") if f"left for {name}" in found] == empty


def test_texts_that_cleaning_drops_are_in_no_split() -> None:
    write_lines(["x"] * 400)
    found = told("corpora.validation=0.4")
    assert "no documents left for train of 0; give more" in found
    assert "no documents left for validation of 0" in found


def test_what_is_not_read_to_its_end_is_not_refused() -> None:
    write_lines(texts(1001))
    assert told("corpora.validation=1e-9") == ""
    write_lines(texts(999))
    assert "left for validation of 999" in told("corpora.validation=1e-9")
    more = "corpora.sources.more.path=s3://bucket/more.txt"
    assert told("corpora.validation=1e-9", more) == ""


@pytest.mark.parametrize("count", range(1, 12))
@pytest.mark.parametrize("labels", [1, 2])
def test_examples_are_refused_if_and_only_if_the_split_leaves_one_empty(
    count: int, labels: int
) -> None:
    write_rows(["ab"[number % labels] for number in range(count)])
    keys = np.array([*map(text_key, texts(count))], np.uint64)
    placements = np.full(count, STRENGTH.index(SHARES), np.int8)
    order, places = np.argsort(keys), np.arange(count)
    rows = Rows(keys[order], placements, places, (order % labels).astype(np.int32), places + 1)
    fates = split(rows, Split(), 17)
    empty = [name for name in ("validation", "test") if SPLITS.index(name) not in fates]
    found = told(FINETUNE)
    assert [
        name for name in ("validation", "test") if f"corpora.split.{name}: no" in found
    ] == empty


def test_equal_texts_count_once() -> None:
    rows = [json.dumps({"text": "equal", "label": label}) for label in "ab" * 20]
    Path("mine.jsonl").write_text("\n".join(rows))
    assert (
        "corpora.split.test: no labelled documents for test: no label has more than 1, of which "
        "0.1 is under half of one; give more, or a larger share, or a source with `split: test`"
    ) in told(FINETUNE)


def test_labels_count_by_their_map_and_several_of_a_row_each() -> None:
    write_rows([[n % 5, 5 + n % 5] for n in range(20)])
    several = "finetune={base: some/model, multi_label: true}"
    assert "no label has more than 4, of" in told(several)
    same = ", ".join(f"{number}: {'good' if number < 2 else 'bad'}" for number in range(10))
    assert told(several, f"corpora.sources.mine.label_map={{{same}}}") == ""


def test_a_source_that_is_a_split_fills_it() -> None:
    write_rows("abab")
    for name in ("validation", "test"):
        Path(f"{name}.jsonl").write_text('{"text": "another", "label": "a"}\n')
    official = [f"corpora.sources.{name}={{path: {name}.jsonl, split: {name}}}"
                for name in ("validation", "test")]  # fmt: skip
    assert told(FINETUNE, *official) == ""
    assert "corpora.split.test" not in (found := told(FINETUNE, official[1]))
    assert "corpora.split.validation: no labelled documents" in found
