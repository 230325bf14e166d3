"""What an epoch reads, from the chosen documents of each part."""

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from cluster.store.artifacts import Draft
from cluster.store.storage import Storage
from tests.fakes import TEXTS, Notes
from trainers.corpora.config import Corpora
from trainers.corpora.steps import document_file
from trainers.corpora.steps.clean_parts import DOCUMENTS
from trainers.corpora.steps.select import CHOSEN
from trainers.corpora.steps.shard_assignment import SPLITS, Piece
from trainers.corpora.steps.write_shards import _Chosen, mix

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@pytest.fixture
def draft(tmp_path: Path) -> Draft:
    """With two parts, of which all documents but the first are for training."""
    draft = Draft(Storage.at(str(tmp_path)), "corpus/demo-shard-0a", resumes=True)
    for part in ("000000", "000001"):
        with draft.working(DOCUMENTS) as folder:
            document_file.write(TEXTS, folder / f"{part}.arrow")
        for split, rows in (("train", np.arange(1, 5)), ("validation", np.arange(1))):
            with draft.working(f"{CHOSEN}/{split}") as folder:
                np.save(folder / f"{part}.npy", rows)
    return draft


def job(draft: Draft, **of_b: Any) -> Any:
    sources = {"a": {"path": "a.txt", "repeat": 2}, "b": {"path": "b.txt", **of_b}}
    corpora = Corpora.model_validate({"sources": sources})
    return SimpleNamespace(recipe=SimpleNamespace(corpora=corpora), draft=draft, progress=Notes())


PIECES = {
    split: {"a": [Piece("000000", 0, stop, 100)], "b": [Piece("000001", 0, stop, 100)]}
    for split, stop in zip(SPLITS, (4, 1), strict=True)
}
CHARACTERS = dict.fromkeys("ab", sum(map(len, TEXTS[1:])))


def test_the_texts_of_pieces_are_found(draft: Draft) -> None:
    chosen = _Chosen(draft, "train", seed=17)
    pieces = [Piece("000000", 0, 2, 1), Piece("000000", 2, 4, 1), Piece("000001", 3, 4, 1)]
    found = [list(chosen.texts(piece)) for piece in pieces]
    assert found == [[*TEXTS[1:3]], [*TEXTS[3:5]], [TEXTS[4]]]
    shares = [len([*chosen.texts(Piece("000000", 0, 4, 1, share))]) for share in (0, 0.999)]
    assert shares == [0, 4]


def test_without_budgets_nothing_is_encoded_to_mix(draft: Draft) -> None:
    mixed, passes = mix(job(draft), PIECES, CHARACTERS, tokenizer=None)
    assert passes == {"a": 2.0, "b": 1.0}
    assert [piece.part for piece in mixed["train"]] == ["000000", "000000", "000001"]
    assert [piece.part for piece in mixed["validation"]] == ["000000", "000001"]


def test_a_budget_is_met_by_the_tokens_that_the_source_has(
    draft: Draft, tokenizer: "PreTrainedTokenizerFast"
) -> None:
    ids = tokenizer([*TEXTS[1:]], add_special_tokens=False)["input_ids"]
    budget = 2 * sum(map(len, ids))
    _, passes = mix(job(draft, tokens=budget), PIECES, CHARACTERS, tokenizer)
    assert passes == {"a": 2.0, "b": pytest.approx(2.0)}
