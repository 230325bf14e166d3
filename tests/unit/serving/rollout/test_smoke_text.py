"""The first request is of the model's own kind of text."""

from pathlib import Path

import pyarrow as pa
import pytest

from cluster.store.artifacts import Artifact, Draft
from cluster.store.storage import Storage
from serving.rollout.smoke_text import MAX_CHARACTERS, WITHOUT_EXAMPLES, sample_text
from tests.fakes import published
from trainers.corpora.tokens.pack import write_arrow


def promoted(storage: Storage, texts: list[str]) -> Artifact:
    draft = Draft(storage, "examples/demo-examples-0a")
    with draft.folder() as folder:
        write_arrow(pa.table({"text": pa.array(texts, pa.large_string())}), folder / "test.arrow")
    draft.publish(recipe="demo", stage="examples", parents={}, inputs={}, metrics={})
    model = published(storage, "model/demo-finetune-0b", parents={"examples": draft.id})
    return published(storage, "promotion/demo-promote-0c", parents={"finetune": model.id})


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_it_is_a_short_text_of_the_test_split(tmp_path: Path, scheme: str) -> None:
    storage = Storage.at(f"{scheme}{tmp_path}")
    promotion = promoted(storage, ["a" * 100, "It's great", "bad"])
    assert sample_text(promotion) == "It's great"
    storage.delete("examples/demo-examples-0a")
    assert sample_text(promotion) == WITHOUT_EXAMPLES


def test_of_long_texts_it_is_the_beginning(tmp_path: Path) -> None:
    promotion = promoted(Storage.at(str(tmp_path)), ["a" * 100, "b" * 200])
    assert sample_text(promotion) == "a" * MAX_CHARACTERS
