"""Labelled documents of several sources, each text once."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import UserError
from cluster.recipe.section import Recipe
from cluster.runs.pipeline import StageJob
from cluster.store.artifacts import drafting
from cluster.store.storage import Storage
from tests.fakes import Notes, serial
from trainers.corpora.cleaning.documents import text_key
from trainers.corpora.config import Corpora
from trainers.corpora.examples import merge, read_rows, stage
from trainers.corpora.examples.splits import STRENGTH
from trainers.corpora.examples.task_rows import LABELLED_TEXTS, TaskRows
from trainers.corpora.reading.config import Source
from trainers.corpora.steps import near_dedup
from trainers.corpora.tokens.pack import read_arrow


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for module in (read_rows, merge, near_dedup):
        monkeypatch.setattr(module, "each", serial)


def source(name: str, *rows: Mapping[str, Any], **settings: Any) -> dict[str, Any]:
    """A source over a file of these rows."""
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    Path(f"{name}.jsonl").write_text("".join(lines), "utf-8")
    return {"path": f"{name}.jsonl", **settings}


def row(text: str, label: Any = None, group: Any = None) -> dict[str, Any]:
    return {"text": text, "label": label, "group": group}


class SeveralLabels(TaskRows):
    several_labels = True  # type: ignore[assignment]


@dataclasses.dataclass(frozen=True)
class Example:
    labels: tuple[str, ...]
    placement: str
    group: str | None
    source: str = ""
    slices: tuple[tuple[str, str | None], ...] = ()


def found(
    task: TaskRows = LABELLED_TEXTS,
    clean: Mapping[str, Any] | None = None,
    **sources: dict[str, Any],
) -> tuple[dict[str, Example], dict[str, Any], dict[str, Any]]:
    """Rows by their text, what was dropped, and the reports of weak labels."""
    corpora = Corpora.model_validate({"sources": sources, "clean": clean or {}})
    recipe = Recipe(name="demo", corpora=corpora)
    storage = Storage.at("mill")
    storage.delete("work")
    own = corpora.example_sources(recipe)
    with drafting(storage, "examples/demo-examples-00", resumes=True) as draft:
        job = StageJob(recipe, {}, draft, storage, Notes(), {"CPU": 1})
        made = stage.merged_rows(job, own, task)
        examples = {}
        assert list(made.buckets) == ["0000"]
        table = read_arrow(draft.worked("documents") / "0000.arrow")
        for one in table.to_pylist():
            placement = STRENGTH[one["placement"]]
            examples[one["text"]] = Example(
                tuple(one["labels"]), placement, one["group"], one["source"], tuple(one["slices"])
            )
        assert made.rows.keys.tolist() == sorted(map(text_key, examples))
        assert made.counts.read == len(examples) + made.counts.dropped.total()
        return examples, dict(made.counts.dropped), made.weak_labels


def labels(examples: Mapping[str, Example]) -> dict[str, str]:
    return {text: ", ".join(example.labels) for text, example in sorted(examples.items())}


def test_repetitions_and_texts_with_two_labels_are_dropped() -> None:
    Path("good.txt").write_text("fine\nboth\nfine \nboth\n")
    Path("bad.txt").write_text("awful\nx\nboth\nfine food\n")
    Path("news.txt").write_text("awful\n")
    examples, dropped, _ = found(
        good={"path": "good.txt", "label": "good"},
        bad={"path": "bad.txt", "label": "bad"},
        news={"path": "news.txt"},
    )
    assert labels(examples) == {"awful": "bad", "fine": "good", "fine food": "bad"}
    assert dropped == {"exact duplicate": 3, "too short": 1, "two labels": 1}


def test_labelled_documents_are_not_judged_by_quality() -> None:
    Path("good.txt").write_text("fine\n")
    sources = {"good": {"path": "good.txt", "label": "good"}}
    assert len(found(clean={"languages": ["zh"], "quality": {}}, **sources)[0]) == 1


def test_labels_are_mapped() -> None:
    rows = [row("one", 1), row("two", 2), row("three", 3), row("four", "1")]
    rows.append(row("five", ""))
    stars = {1: "bad", "2": None, "3": "good", "": None}
    examples, dropped, _ = found(x=source("x", *rows, columns={"label": "label"}, label_map=stars))
    assert labels(examples) == {"four": "bad", "one": "bad", "three": "good"}
    assert dropped == {"label mapped to null": 2}


def test_numbers_of_a_map_match_with_a_point_or_without() -> None:
    Path("a.csv").write_text("text,label\none,1.0\ntwo,2\nthree,3.5\n")
    mapped = {1.0: "good", 2.0: "bad", 3.5: "fair"}
    found_labels, _, _ = found(
        a={"path": "a.csv", "columns": {"label": "label"}, "label_map": mapped},
        b=source(
            "b", row("four", 1.0), row("five", 2), columns={"label": "label"}, label_map=mapped
        ),
    )
    assert labels(found_labels) == {
        "five": "bad", "four": "good", "one": "good", "three": "fair", "two": "bad"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("label", "label_map", "says"),
    [
        ("postive", {"positive": "good"}, "label 'postive' is not in corpora.sources.x.label_map; "
         "did you mean 'positive'?"),
        (7, {"1": "bad", "2": "good"}, "label '7' is not in corpora.sources.x.label_map; known: 1"),
        ("", None, "no label in column 'label' (unreadable: 1 of 1 rows"),
    ],
)  # fmt: skip
def test_a_label_that_means_nothing_is_refused_where_it_stands(
    label: Any, label_map: Any, says: str
) -> None:
    with pytest.raises(UserError) as caught:
        found(x=source("x", row("one", label), columns={"label": "label"}, label_map=label_map))
    assert "x.jsonl:1: " + says in str(caught.value)


def test_a_text_has_the_groups_of_all_its_copies() -> None:
    rows = [row("one", "a", "x"), row("one", "a", 7), row("two", "a"), row("one", "a", "x")]
    examples, _, _ = found(x=source("x", *rows, columns={"label": "label", "group": "group"}))
    assert examples["one"].group in {"x", "7"}
    assert examples["two"].group is None


def test_a_missing_column_of_groups_is_refused() -> None:
    with pytest.raises(
        UserError, match=r"x\.jsonl:1: no column 'author': set as `columns.group`; columns"
    ):
        found(x=source("x", row("one", "a"), columns={"label": "label", "group": "author"}))


def test_official_test_documents_keep_their_labels_and_their_place() -> None:
    settings = {"columns": {"label": "label"}}
    examples, dropped, _ = found(
        train=source("train", row("one", "wrong"), row("two", "a"), row("two", "b"), **settings),
        test=source("test", row("one", "right"), row("three", "a"), split="test", **settings),
        dev=source("dev", row("one", "a"), row("four", "a"), split="validation", **settings),
    )
    assert labels(examples) == {"four": "a", "one": "right", "three": "a"}
    assert {text: example.placement for text, example in examples.items()} == {
        "one": "test",
        "three": "test",
        "four": "validation",
    }
    assert dropped == {"exact duplicate": 3, "two labels": 1}


RULES = {
    "functions": {
        "praise": {"label": "good", "pattern": "great"},
        "blame": {"label": "bad", "pattern": "poor"},
    }
}


def test_weak_labels_are_for_training_and_yield_to_those_of_people() -> None:
    raw = [row("great one"), row("poor one"), row("great but poor"), row("one"), row("great one")]
    gold = [row("great one", "bad"), row("poor one", "bad"), row("other", "good")]
    examples, dropped, reports = found(
        raw=source("raw", *raw, row("great two"), weak_labels=RULES),
        gold=source("gold", *gold, columns={"label": "label"}),
    )
    assert {text: (each.labels[0], each.placement) for text, each in examples.items()} == {
        "great one": ("bad", "shares"),
        "poor one": ("bad", "shares"),
        "other": ("good", "shares"),
        "great two": ("good", "train"),
    }
    assert dropped == {"exact duplicate": 3, "no votes": 1, "tied votes": 1}
    assert reports["raw"]["documents"] == 6
    assert reports["raw"]["coverage"] == pytest.approx(4 / 6)
    assert (reports["raw"]["accuracy"], reports["raw"]["accuracy_documents"]) == (0.5, 2)


def test_weak_labels_go_where_their_source_says() -> None:
    raw = source("raw", row("great one"), weak_labels=RULES, split="shares")
    assert found(raw=raw)[0]["great one"].placement == "shares"


def test_the_order_of_the_sources_is_nothing_to_what_is_found() -> None:
    drawn = {
        "a": source("a", row("one", "a", "x"), row("two", "b", "y"), columns={"label": "label"}),
        "b": source(
            "b", row("two", "c", "z"), row("one", "a"), columns={"label": "label"}, split="test"
        ),
        "c": source("c", row("great one"), row("two"), weak_labels=RULES),
    }
    first, _, _ = found(**drawn)
    second, _, _ = found(**dict(reversed(drawn.items())))

    def without_place(examples: Mapping[str, Example]) -> list[tuple[Any, ...]]:
        return [(text, each.labels, each.placement, each.group) for text, each in examples.items()]

    assert without_place(first) == without_place(second)
    assert first["two"].group in {"y", "z"}


def test_a_list_of_labels_is_refused_where_one_is_wanted() -> None:
    rows = [row("one", ["a", "b"])]
    with pytest.raises(UserError, match=r"x\.jsonl:1: the label is a list, .*multi_label: true"):
        found(x=source("x", *rows, columns={"label": "label"}))


def test_a_text_has_the_labels_of_all_its_copies_where_it_may_have_several() -> None:
    rows = [row("one", ["b", "a", "b"]), row("two", []), row("one", "c"), row("three", [3, 1])]
    label_map = {"a": "A", "b": "B", "c": "C", "1": None, "3": None}
    settings = {"columns": {"label": "label"}, "label_map": label_map}
    examples, dropped, _ = found(task=SeveralLabels(), x=source("x", *rows, **settings))
    assert labels(examples) == {"one": "A, B, C", "two": ""}
    assert dropped == {"exact duplicate": 1, "label mapped to null": 1}


@pytest.mark.parametrize(
    ("values", "kept", "dropped"),
    [
        ([{"alike": 1.0}, {"alike": 1.0}], [0], [("exact duplicate", 1)]),
        ([{"a": 1, "b": [1], "c": 0}, {"a": 2, "b": [], "c": 0}], [],
         [("exact duplicate", 1), ("copies differ in a and b", 0)]),
        ([{}, {}], [0], [("exact duplicate", 1)]),
    ],
)  # fmt: skip
def test_copies_that_differ_in_what_a_task_has_of_them_are_dropped(
    values: list[dict[str, Any]], kept: list[int], dropped: list[tuple[str, int]]
) -> None:
    origin = merge.Origin.of("x", Source(path="x.jsonl"), None)
    merged = merge.Merged()
    copies = [merge.Copy(n, origin, (), None, None, one) for n, one in enumerate(values)]
    merged.add(copies, one_label=False)
    assert (merged.places, merged.dropped) == (kept, dropped)


def test_values_are_those_of_the_copy_whose_labels_stay() -> None:
    of_train, of_test = (
        merge.Origin.of("x", Source(path="x.jsonl", split=split), None) for split in (None, "test")
    )
    merged = merge.Merged()
    first = merge.Copy(3, of_train, ("a",), "group", None, {"entities": ["a"]})
    merged.add([first, merge.Copy(4, of_test, ("b",), None, None, {"entities": ["b"]})], False)
    assert (merged.places, merged.value_places, merged.labels) == ([3], [4], [["b"]])


def in_shop(text: str, label: str, shop: str, group: Any = None) -> dict[str, Any]:
    return {**row(text, label, group), "store": shop}


def test_a_text_has_the_source_and_the_slices_of_one_copy_whose_label_it_has() -> None:
    shops = {"slices": ["shop"], "columns": {"label": "label", "shop": "store"}}
    rules = {"functions": {"x": {"label": "bad", "pattern": "."}}}
    examples, _, _ = found(
        raw={**source("raw", {"text": "one"}), "weak_labels": rules},
        a=source("a", in_shop("one", "good", "A"), in_shop("two", "bad", "B"), **shops),
        b=source("b", row("one", "good"), in_shop("two", "bad", "C", "g"), **shops),
    )
    assert (examples["one"].source, examples["one"].slices) == ("a", (("shop", "A"),))
    assert (examples["two"].source, examples["two"].slices) == ("b", (("shop", "C"),)), "by group"


def test_what_is_no_value_to_slice_by_is_told() -> None:
    rows = [
        {**row(f"text {n}", "good"), "year": value}
        for n, value in enumerate([1998, 1998.0, True, None, "", "x" * 101, ["a"], "x" * 100])
    ]
    own = source("a", *rows, row("text 8", "bad"), slices=["year"], columns={"label": "label"})
    examples, _, _ = found(a=own)
    values = [dict(examples[f"text {n}"].slices)["year"] for n in range(9)]
    assert values == ["1998", "1998", "True", None, None, None, None, "x" * 100, None]
