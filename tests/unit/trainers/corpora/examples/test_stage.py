import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import UserError
from cluster.recipe.loading import load
from cluster.runs.pipeline import StageJob
from cluster.store.artifacts import Artifact, drafting
from cluster.store.storage import Storage
from tests.fakes import Notes, published, serial
from tests.reviews import reviews
from trainers.corpora.cleaning.documents import text_key
from trainers.corpora.examples import merge, read_rows, stage, write_splits
from trainers.corpora.examples.splits import SPLITS
from trainers.corpora.steps import near_dedup, quotes
from trainers.corpora.tokens.pack import read_arrow
from trainers.tasks.classify.spec import Classify

RECIPE = """\
name: demo
corpora:
  sources:
    good: {path: good.txt, label: good}
    bad: {path: bad.txt, label: bad}
  split: {validation: 0.2, test: 0.2}
finetune: {base: some/model}
"""


@pytest.fixture(autouse=True)
def _user_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for module in (read_rows, merge, write_splits, quotes, near_dedup):
        monkeypatch.setattr(module, "each", serial)
    Path("recipe.yaml").write_text(RECIPE)
    Path("good.txt").write_text("".join(f"good {number}\n" for number in range(50)) + "both\n")
    Path("bad.txt").write_text("".join(f"bad {number}\n" for number in range(30)) + "both\n")


def run(*overrides: str, notes: Notes | None = None) -> tuple[dict[str, Any], Artifact]:
    """The report, and the artifact."""
    storage = Storage.at("mill")
    storage.delete("examples")
    with drafting(storage, "examples/demo-examples-00", resumes=True) as draft:
        recipe = load("recipe.yaml", overrides)
        report = stage.run(StageJob(recipe, {}, draft, storage, notes or Notes(), {"CPU": 1}))
        return report, draft.publish(
            recipe="demo", stage="examples", parents={}, inputs={}, metrics=report
        )


def rows(made: Artifact) -> dict[str, list[dict[str, Any]]]:
    return {name: read_arrow(made.path / f"{name}.arrow").to_pylist() for name in SPLITS}


def test_labelled_documents_are_split_once() -> None:
    notes = Notes()
    report, made = run(notes=notes)
    found = rows(made)
    everything = [(row["text"], row["label"]) for of_split in found.values() for row in of_split]
    assert len(dict(everything)) == len(everything) == 80
    assert all(text.split()[0] == label for text, label in everything)
    assert {name: len(of_split) for name, of_split in found.items()} == {
        name: report[name] for name in SPLITS
    }
    assert report["labels"] == {
        "bad": {"train": 18, "validation": 6, "test": 6},
        "good": {"train": 30, "validation": 10, "test": 10},
    }
    assert report["dropped"] == {"exact duplicate": 1, "two labels": 1}
    assert notes.lines == [
        "82 labelled documents, dropped: exact duplicate 1, two labels 1; "
        "train 48, validation 16, test 16"
    ]


def test_neither_order_nor_number_of_files_matter() -> None:
    _, made = run()
    before = rows(made)
    lines = Path("good.txt").read_text().splitlines(keepends=True)
    Path("good-1.txt").write_text("".join(lines[:20:-1]))
    Path("good-2.txt").write_text("".join(lines[:21]))
    _, made = run("corpora.sources.good.path=good-*.txt")
    assert rows(made) == before


def test_labels_keep_the_order_of_the_recipe() -> None:
    _, made = run("finetune.labels=[good, bad, fair]")
    assert Classify(labels=["good", "bad", "fair"]).label_order(made) == ["good", "bad", "fair"]
    assert Classify().label_order(made) == ["bad", "good"]


def test_labels_that_the_recipe_learned_of_later_are_refused_too() -> None:
    _, made = run()
    with pytest.raises(UserError, match=r"examples-00: label 'bad' is not in finetune\.labels"):
        Classify(labels=["good", "fair"]).label_order(made)
    alone = published(made.storage, "examples/one-examples-00", {"labels.json": '["good"]'})
    with pytest.raises(UserError, match=r"two labels or more, found \['good'\]"):
        Classify().label_order(alone)


def test_what_is_held_out_is_validation_and_test() -> None:
    _, made = run()
    found = rows(made)
    held_out = [row["text"] for name in ("validation", "test") for row in found[name]]
    assert list(stage.held_out_texts(made)) == held_out
    assert not set(held_out) & {row["text"] for row in found["train"]}


@pytest.mark.parametrize(
    ("balance", "each"), [("none", None), ("downsample", 18), ("upsample", 30)]
)
def test_training_alone_is_balanced(balance: str, each: int | None) -> None:
    report, made = run(f"corpora.balance={balance}")
    found = rows(made)
    counted = Counter(row["label"] for row in found["train"])
    assert counted == ({"good": 30, "bad": 18} if each is None else {"good": each, "bad": each})
    assert (report["validation"], report["test"]) == (16, 16)
    assert report["train"] == counted.total()
    assert report["labels"]["bad"]["train"] == 18
    assert ("balanced" in report) == (each is not None)


def test_groups_are_kept_and_never_part() -> None:
    lines = [f"text {number},{'ab'[number % 2]},{number // 6}\n" for number in range(120)]
    Path("all.csv").write_text("text,label,author\n" + "".join(lines) + "alone,a,\n")
    source = "{path: all.csv, columns: {group: author}}"
    _, made = run(f"corpora.sources={{all: {source}}}")
    splits: dict[str, set[str]] = {}
    for name, of_split in rows(made).items():
        for row in of_split:
            splits.setdefault(row["group"], set()).add(name)
    assert len(splits) == 21
    assert all(len(names) == 1 for group, names in splits.items() if group)


def test_weak_labels_are_reported_and_only_train() -> None:
    Path("raw.txt").write_text("good 3\nbad 4\nbad news\ngood news\ngood or bad\nnothing\n")
    functions = "{praise: {label: good, lexicon: [good]}, blame: {label: bad, lexicon: [bad]}}"
    notes = Notes()
    report, made = run(
        f"corpora.sources.raw={{path: raw.txt, weak_labels: {{functions: {functions}}}}}",
        notes=notes,
    )
    found = rows(made)
    weak = [(row["text"], row["label"]) for row in found["train"] if "news" in row["text"]]
    assert sorted(weak) == [("bad news", "bad"), ("good news", "good")]
    assert (report["train"], report["validation"], report["test"]) == (50, 16, 16)
    figures = report["weak_labels"]["raw"]
    assert (figures["coverage"], figures["accuracy"]) == (pytest.approx(4 / 6), 1.0)
    assert figures["functions"]["blame"]["conflicts"] == pytest.approx(1 / 6)
    assert notes.lines[1:] == [
        "raw: weak labels for 66.7%; of 2 that are labelled elsewhere, 100.0% agree"
    ]


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["finetune.labels=[good, fair]"], "label 'bad' is not in finetune.labels (good, fair)"),
        (["corpora.sources.bad.label=good"], "two labels or more, found ['good']"),
        (["corpora.clean.min_characters=50"], "two labels or more, found no documents"),
        (["corpora.split.test=0.001"], "corpora.split: no labelled documents in test of 80"),
        (
            ["corpora.sources.good.split=test", "corpora.sources.bad.split=test"],
            "corpora.split: no labelled documents in train, validation of 80",
        ),
    ],
)
def test_what_cannot_be_learned_is_refused(overrides: list[str], says: str) -> None:
    with pytest.raises(UserError) as caught:
        run(*overrides)
    assert says in str(caught.value)


def test_a_label_outside_the_list_is_told_with_its_file() -> None:
    with pytest.raises(UserError, match=r"bad\.txt:\d+: label 'bad'"):
        run("finetune.labels=[good, fair]")


def test_without_fine_tuning_one_label_is_enough() -> None:
    _, made = run("finetune=null", "corpora.sources.bad.label=good")
    assert json.loads((made.path / "labels.json").read_text()) == ["good"]


def test_texts_that_are_alike_are_in_one_split() -> None:
    texts = [text for text in dict.fromkeys(reviews()) if len(text) > 40][:150]
    Path("good.txt").write_text("\n".join(texts), "utf-8")
    Path("bad.txt").write_text("\n".join(f"{text}，就这样" for text in texts), "utf-8")

    def parted(*overrides: str) -> int:
        _, made = run(*overrides)
        split = {row["text"]: name for name, found in rows(made).items() for row in found}
        return sum(
            split[text] != split[copy]
            for text in split
            for copy in split
            if copy == f"{text},就这样"
        )

    assert parted("corpora.deduplicate.similarity=0.4") == 0
    assert parted("corpora.decontaminate=null") > 20, "without it nobody looks"


def test_training_texts_do_not_quote_evaluation_texts() -> None:
    texts = [text for text in dict.fromkeys(reviews()) if len(text) > 40 and not text.isascii()][
        :150
    ]
    Path("good.txt").write_text("\n".join(texts[:140]), "utf-8")
    Path("bad.txt").write_text("\n".join(f"有人说：{text}" for text in texts[:140]), "utf-8")
    Path("clue.jsonl").write_text(
        "\n".join(json.dumps({"sentence": text}) for text in [*texts[130:], "很差"]), "utf-8"
    )
    Path("more.txt").write_text("很差\n这一句谁都没有\n", "utf-8")
    files = "corpora.decontaminate.files=[clue.jsonl]"
    more = "corpora.sources.more={path: more.txt, label: bad, split: train}"

    report, made = run(files, more)
    split = rows(made)
    train = [row["text"] for row in split["train"]]
    known = [row["text"] for name in ("validation", "test") for row in split[name]]
    assert not any(text.removeprefix("有人说:") in one for text in known for one in train)
    assert not any(text in one for text in texts[130:] for one in train)
    assert "这一句谁都没有" in train
    assert report["dropped"]["evaluation text"] >= 1, "too short for a passage"
    assert report["dropped"]["passage of an evaluation text"] > 20
    _, made = run("corpora.decontaminate=null", more)
    assert "很差" in [row["text"] for row in rows(made)["train"]]


def test_rows_have_an_id_that_follows_from_their_text() -> None:
    Path("good.txt").write_text("\n".join(f"good {number}" for number in range(50)))
    _, made = run()
    for of_split in rows(made).values():
        for row in of_split:
            assert row["id"] == f"{text_key(row['text']):016x}"


def test_a_row_may_have_several_labels() -> None:
    words = ["service", "room", "food"]
    lines = [
        {"text": f"text {number}", "label": [words[number % 3], words[number % 2]]}
        for number in range(120)
    ]
    lines += [{"text": f"nothing {number}", "label": []} for number in range(10)]
    Path("all.jsonl").write_text("\n".join(map(json.dumps, lines)))
    several = ("corpora.sources={all: {path: all.jsonl}}", "finetune.multi_label=true")
    report, made = run(*several)
    found = {row["text"]: row["label"] for of_split in rows(made).values() for row in of_split}
    assert found["text 0"] == ["service"]
    assert found["text 1"] == ["room"]
    assert found["text 2"] == ["food", "service"]
    assert found["nothing 3"] == []
    assert {label: sum(of.values()) for label, of in report["labels"].items()} == {
        "food": 40,
        "room": 80,
        "service": 80,
    }
    for of in report["labels"].values():
        for split in ("validation", "test"):
            assert of[split] == pytest.approx(sum(of.values()) / 5, abs=4)
    assert json.loads((made.path / "labels.json").read_text()) == ["food", "room", "service"]
    with pytest.raises(UserError, match=r"all\.jsonl:1: the label is a list"):
        run(several[0])


@pytest.mark.parametrize("shared", [1, 2])
def test_a_greeting_that_texts_share_drops_none_of_them(shared: int) -> None:
    """marin-community/marin#7126"""
    greeting = "您好，感谢您联系北方商店客户服务中心，"
    for label in ("good", "bad"):
        lines = [
            f"{greeting if number % shared == 0 else ''}{label} {number * 7919}\n"
            for number in range(150)
        ]
        Path(f"{label}.txt").write_text("".join(lines), "utf-8")
    report, _ = run()
    assert report["dropped"] == {}
    assert (report["train"], report["validation"], report["test"]) == (180, 60, 60)


def test_where_nothing_is_left_to_train_on_the_reasons_are_told() -> None:
    text = "这本书的内容很充实，印刷也不错，就是送货慢了一些"
    sources = []
    for split, texts in (("train", (f"一{text}", f"二{text}")), ("test", (text, "a b")),
                         ("validation", ("c d", "e f"))):  # fmt: skip
        rows = [f"{line},{label}" for line, label in zip(texts, ("good", "bad"), strict=True)]
        Path(f"{split}.csv").write_text("\n".join(["text|label", *rows]).replace(",", "|"), "utf-8")
        sources.append(f"{split}: {{path: {split}.csv, split: {split}}}")
    with pytest.raises(UserError) as caught:
        run(f"corpora.sources={{{', '.join(sources)}}}")
    assert str(caught.value).startswith(
        "corpora.split: no labelled documents in train of 4; of 6 read, dropped: "
        "passage of an evaluation text 2; give more labelled documents"
    )
    assert str(caught.value).endswith("by `corpora.decontaminate: null`")


def test_labels_in_the_test_file_alone_are_told() -> None:
    Path("test.csv").write_text("text,label\nseen,good\nnever seen,fair\nnor this,fair\n")
    source = "{path: test.csv, split: test}"
    notes = Notes()
    run(f"corpora.sources.test={source}", notes=notes)
    assert notes.lines[1:] == [
        "warning: labels without training documents, which a model cannot learn: 'fair' (test 2)",
        "warning: labels without test documents, which test figures leave out: "
        "'bad' (train 24, validation 6)",
    ]


@pytest.mark.parametrize("similarity", ["null", "0.4"])
def test_nor_does_the_number_of_tasks(similarity: str, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [text for text in dict.fromkeys(reviews()) if 10 < len(text) < 80][:120]
    texts += [f"{text}，就这样" for text in texts[:60]] + texts[:20]
    lines = [
        {"text": text, "label": "ab"[len(text) % 2], "group": number // 5 if number % 2 else None}
        for number, text in enumerate(texts)
    ]
    Path("all.jsonl").write_text("\n".join(map(json.dumps, lines)))
    overrides = ("corpora.sources={all: {path: all.jsonl}}", "corpora.balance=upsample")
    overrides += (f"corpora.deduplicate={{similarity: {similarity}}}",)
    report, made = run(*overrides)
    before = rows(made)
    assert report["dropped"]["exact duplicate"] == 20
    monkeypatch.setattr(stage, "DOCUMENTS_A_BUCKET", 9)
    monkeypatch.setattr(near_dedup, "MATCHED_TOGETHER", 30)
    monkeypatch.setattr(read_rows, "CHARACTERS_TOGETHER", 700)
    monkeypatch.setattr(merge, "BATCH_ROWS", 2)
    again, made = run(*overrides)
    assert again == report
    assert rows(made) == before


def test_a_source_whose_files_have_labels_is_one_of_examples() -> None:
    lines = [{"text": f"text {number}", "label": "ab"[number % 2]} for number in range(60)]
    Path("own.jsonl").write_text("\n".join(map(json.dumps, lines)))
    plain = "plain: {path: plain.jsonl}"
    Path("plain.jsonl").write_text('{"text": "no label"}\n')
    report, _ = run(f"corpora.sources={{own: {{path: own.jsonl}}, {plain}}}")
    assert report["read"] == 60
    with pytest.raises(UserError, match=r"corpora\.sources: finetune needs labels"):
        run(f"corpora.sources={{own: {{path: own.jsonl, columns: {{label: null}}}}, {plain}}}")


def test_rows_keep_their_source_and_what_they_are_sliced_by() -> None:
    lines = [json.dumps({"text": f"fine {n}", "label": "good", "store": n % 3}) for n in range(30)]
    Path("shops.jsonl").write_text("\n".join([*lines, '{"text": "fine 30", "label": "good"}']))
    shops = "{path: shops.jsonl, slices: [shop], columns: {label: label, shop: store}}"
    notes = Notes()
    report, made = run(f"corpora.sources.shops={shops}", notes=notes)
    found = [row for of_split in rows(made).values() for row in of_split]
    assert {row["source"] for row in found} == {"good", "bad", "shops"}
    for row in found:
        word, number = row["text"].split()
        is_shop = word == "fine" and int(number) < 30
        assert row["shop"] == (str(int(number) % 3) if is_shop else None)
    assert report["noted"] == {"rows without a value of shop": 1}
    assert notes.lines[-1] == "in the documents read: rows without a value of shop 1"
