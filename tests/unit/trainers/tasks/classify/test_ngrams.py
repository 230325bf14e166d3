from pathlib import Path

import pyarrow as pa
import pytest

from cluster.store.storage import Storage
from tests.fakes import published
from trainers.corpora.tokens.pack import write_arrow
from trainers.tasks.classify.figures import figures
from trainers.tasks.classify.ngrams import ngram
from trainers.tasks.classify.spec import Classify


def test_the_sanity_line_learns_from_characters(tmp_path: Path) -> None:
    examples = published(Storage.at(str(tmp_path)), "examples/demo-examples-00")
    for split, count in (("train", 30), ("validation", 5), ("test", 10)):
        labels = [("差", "好")[number % 2] for number in range(count)]
        texts = [f"这家酒店很{label}{number}" for number, label in enumerate(labels)]
        if split == "test":  # a label that training never saw is an error, not a failure
            texts, labels = [*texts, "一般"], [*labels, "中"]
        columns = {"id": [*map(str, range(len(texts)))], "text": texts, "label": labels}
        write_arrow(pa.table(columns), examples.path / f"{split}.arrow")
    made = ngram(Classify(), examples)
    assert [record["id"] for record in made] == [*map(str, range(11))]
    found = figures(made)
    assert (found["accuracy"], found["documents"]) == (pytest.approx(10 / 11), 11)
    assert [sum(row) for row in found["confusion"]] == [1, 5, 5]


def test_several_labels_are_learned_one_by_one(tmp_path: Path) -> None:
    examples = published(Storage.at(str(tmp_path)), "examples/demo-examples-00")
    for split, count in (("train", 60), ("validation", 8), ("test", 8)):
        labels = [[["快"], ["好"], ["快", "好"], []][number % 4] for number in range(count)]
        texts = [f"这家店{'很'.join(own)}{number}" for number, own in enumerate(labels)]
        columns = {"id": [*map(str, range(len(texts)))], "text": texts}
        table = pa.table({**columns, "label": pa.array(labels, pa.list_(pa.string()))})
        write_arrow(table, examples.path / f"{split}.arrow")
    found = figures(ngram(Classify(multi_label=True), examples))
    assert found["micro_f1"] > 0.9
    assert set(found["per_label"]) == {"快", "好"}
