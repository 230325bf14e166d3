from pathlib import Path

import pyarrow as pa
import pytest
from trainers.scoring.ngrams import ngram

from cluster.errors import UserError
from cluster.store.storage import Storage
from tests.fakes import published
from trainers.corpora.tokens.pack import write_arrow
from trainers.scoring.evaluate import compare, evaluate_model


def test_the_gain_from_pretraining_is_paired_by_seed() -> None:
    found = compare({"pretrained": [0.80, 0.82, 0.84], "scratch": [0.70, 0.73, 0.73]})
    assert found["pretrained"]["mean"] == pytest.approx(0.82)
    gain = found["gain from pretraining"]
    assert gain["accuracies"] == pytest.approx([0.10, 0.09, 0.11])
    assert gain["mean"] == pytest.approx(0.10)
    # Of the differences, not of the accuracies, which vary more.
    assert gain["half_width_95"] == pytest.approx(4.3027 * 0.01 / 3**0.5, rel=1e-3)


def test_without_a_second_kind_there_is_no_gain() -> None:
    assert list(compare({"pretrained": [0.8, 0.9]})) == ["pretrained"]


def test_a_model_without_labelled_examples_is_refused(tmp_path: Path) -> None:
    storage = Storage.at(str(tmp_path))
    base = published(storage, "model/demo-pretrain-00")
    with pytest.raises(UserError, match="model/demo-pretrain-00: has no labelled test split"):
        evaluate_model(base)


def test_the_sanity_line_learns_from_characters(tmp_path: Path) -> None:
    examples = published(Storage.at(str(tmp_path)), "examples/demo-examples-00")
    for split, count in (("train", 30), ("validation", 5), ("test", 10)):
        labels = [("差", "好")[number % 2] for number in range(count)]
        texts = [f"这家酒店很{label}{number}" for number, label in enumerate(labels)]
        if split == "test":  # a label that training never saw is an error, not a failure
            texts, labels = [*texts, "一般"], [*labels, "中"]
        write_arrow(pa.table({"text": texts, "label": labels}), examples.path / f"{split}.arrow")
    found = ngram(examples)
    assert (found["accuracy"], found["documents"]) == (pytest.approx(10 / 11), 11)
    assert [sum(row) for row in found["confusion"]] == [1, 5, 5]
