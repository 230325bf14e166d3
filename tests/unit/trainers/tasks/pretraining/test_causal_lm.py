"""What causal models learn from a packed sequence."""

from pathlib import Path
from typing import Any

import pytest
import torch

from cluster.errors import UserError
from tests.objectives import LENGTH, sequences, start
from trainers.models.build import Start
from trainers.tasks.pretraining.causal_lm import CausalLM
from trainers.tasks.pretraining.config import CAUSAL
from trainers.tasks.task import IGNORED


@pytest.fixture
def causal(corpus: Any) -> CausalLM:
    return CausalLM(corpus, start("llama"), seed=17, cache_gb=1)


def test_causal_labels_are_the_next_tokens_of_the_same_document(
    causal: CausalLM, tokenizer: Any
) -> None:
    (row,) = given = sequences(1, tokenizer)
    batch = causal.collate(given, [0])
    (labels,) = batch["labels"].tolist()
    expected: list[int] = []
    for length in row["piece_lengths"]:
        document = row["input_ids"][len(expected) : len(expected) + length]
        expected += [*document[1:], IGNORED]
    assert labels == expected + [IGNORED] * (LENGTH - len(expected))
    assert batch["input_ids"][0].tolist() == row["input_ids"]
    assert causal.targets(batch) == sum(length - 1 for length in row["piece_lengths"])


@pytest.mark.parametrize("architecture", CAUSAL)
@torch.no_grad()
def test_the_causal_loss_is_that_of_every_document_by_itself(
    corpus: Any, tokenizer: Any, architecture: str
) -> None:
    torch.manual_seed(0)
    task = CausalLM(corpus, start(architecture), seed=17, cache_gb=1)
    model = task.model().eval()
    (row,) = given = sequences(1, tokenizer)
    loss, _ = task.loss(model, task.collate(given, [0]))
    expected, at = 0.0, 0
    for length in row["piece_lengths"]:
        ids = torch.tensor([row["input_ids"][at : at + length]])
        # Transformers shifts the labels itself, and means.
        expected += float(model(input_ids=ids, labels=ids).loss) * (length - 1)
        at += length
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_models_that_cannot_keep_documents_apart_are_refused(corpus: Any, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "opt"}')
    task = CausalLM(corpus, Start(like=str(tmp_path)), seed=17, cache_gb=1)
    with pytest.raises(UserError, match=r"pretrain\.like: 'opt' cannot be trained on packed"):
        task.model()
