from pathlib import Path

from cluster.store.artifacts import drafting
from cluster.store.storage import Storage
from tests.fakes import published
from trainers.models.card import describe, read_card


def test_a_model_says_what_it_is_and_comes_from(tmp_path: Path) -> None:
    storage = Storage.at(str(tmp_path))
    corpus = published(storage, "corpus/demo-shard-00")
    with drafting(storage, "model/demo-finetune-00") as draft:
        describe(
            draft,
            {"shard": corpus},
            "classify",
            {"accuracy": 0.5},
            labels=["差", "好"],
            max_length=8,
        )
        with draft.folder() as folder:
            assert read_card(folder) == {
                "id": "model/demo-finetune-00",
                "task": "classify",
                "labels": ["差", "好"],
                "max_length": 8,
                "metrics": {"accuracy": 0.5},
                "lineage": {"shard": "corpus/demo-shard-00"},
            }
            card = (folder / "README.md").read_text("utf-8")
    assert card.startswith("---\nlibrary_name: transformers\n---\n# model/demo-finetune-00")
    assert "| accuracy | 0.5 |" in card
    assert "- shard: `corpus/demo-shard-00`" in card
