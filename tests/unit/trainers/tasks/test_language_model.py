"""What masked and causal models learn from a packed sequence."""

import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from cluster.storage import Storage
from tests.packed import corpus_of
from trainers.config import CAUSAL, MASKED, Shape
from trainers.corpora.tokens.pack import pack_documents
from trainers.model import Start, packed_inputs
from trainers.tasks import IGNORED, targets
from trainers.tasks.language_model import CausalLM, MaskedLM

BEGIN, END, PAD = 2, 3, 0
LENGTH = 256


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Any:
    documents = [np.arange(5, 15, dtype=np.uint16)] * 6
    ends = tokenizer.cls_token_id, tokenizer.sep_token_id
    table = pack_documents(documents, *ends, 32, tokenizer.pad_token_id, len(tokenizer))
    storage = Storage.at(str(tmp_path_factory.mktemp("mill")))
    corpus = corpus_of(storage, {"train": [table]})
    tokenizer.save_pretrained(corpus.path / "tokenizer")
    return corpus


def start(architecture: str) -> Start:
    sizes = {"hidden_size": 32, "layers": 1, "heads": 2, "max_positions": LENGTH}
    return Start(shape=Shape.model_validate({"architecture": architecture, **sizes}))


def rows(count: int, tokenizer: Any) -> list[dict[str, Any]]:
    """Sequences of three documents, one of a single token, and some padding."""
    generator = torch.Generator().manual_seed(5)
    begin, end, pad = tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id
    made = []
    for _ in range(count):
        words = torch.randint(5, len(tokenizer), (LENGTH,), generator=generator).tolist()
        pieces = [
            [begin, *words[:120], end],
            [begin, words[120], end],
            [begin, *words[121:220], end],
        ]
        flat = [token for piece in pieces for token in piece]
        made.append(
            {
                "input_ids": flat + [pad] * (LENGTH - len(flat)),
                "piece_lengths": [len(piece) for piece in pieces],
            }
        )
    return made


@pytest.fixture
def masked(corpus: Any) -> MaskedLM:
    return MaskedLM(corpus, start("bert"), seed=17, cache_gb=1, mask_probability=0.2)


@pytest.fixture
def causal(corpus: Any) -> CausalLM:
    return CausalLM(corpus, start("llama"), seed=17, cache_gb=1)


def test_masks_have_the_shares_of_the_paper(masked: MaskedLM, tokenizer: Any) -> None:
    given = rows(200, tokenizer)
    ids = torch.tensor([row["input_ids"] for row in given])
    batch = masked.collate(given, range(200))
    chosen = batch["labels"] != IGNORED
    maskable = ids >= 5  # neither special tokens nor padding
    assert not (chosen & ~maskable).any()
    assert torch.equal(batch["labels"][chosen], ids[chosen])
    assert torch.equal(batch["input_ids"][~chosen], ids[~chosen])
    assert chosen.sum() / maskable.sum() == pytest.approx(0.2, abs=0.01)
    inputs, originals = batch["input_ids"][chosen], ids[chosen]
    is_mask, is_same = inputs == tokenizer.mask_token_id, inputs == originals
    by_chance = 0.1 / len(tokenizer)
    assert is_mask.float().mean() == pytest.approx(0.8 + by_chance, abs=0.02)
    assert is_same.float().mean() == pytest.approx(0.1 + by_chance, abs=0.02)
    replaced = inputs[~is_mask & ~is_same]
    assert replaced.min() >= 0
    assert replaced.max() < len(tokenizer)
    assert len(replaced.unique()) > 0.8 * len(tokenizer)


def test_masks_follow_from_the_samples_number_alone(masked: MaskedLM, tokenizer: Any) -> None:
    given = rows(4, tokenizer)
    together = masked.collate(given, [10, 11, 12, 13])
    for place in range(4):
        alone = masked.collate(given[place : place + 1], [10 + place])
        for name, value in alone.items():
            assert torch.equal(value[0], together[name][place])
    same_text = masked.collate([given[0]] * 2, [10, 999])
    assert not torch.equal(same_text["labels"][0], same_text["labels"][1]), "in another epoch"


def test_masks_differ_by_seed(corpus: Any, tokenizer: Any) -> None:
    one, two = (
        MaskedLM(corpus, start("bert"), seed, cache_gb=1).collate(rows(1, tokenizer), [3])["labels"]
        for seed in (1, 2)
    )
    assert not torch.equal(one, two)


def test_causal_labels_are_the_next_tokens_of_the_same_document(
    causal: CausalLM, tokenizer: Any
) -> None:
    (row,) = given = rows(1, tokenizer)
    batch = causal.collate(given, [0])
    (labels,) = batch["labels"].tolist()
    expected: list[int] = []
    for length in row["piece_lengths"]:
        document = row["input_ids"][len(expected) : len(expected) + length]
        expected += [*document[1:], IGNORED]
    assert labels == expected + [IGNORED] * (LENGTH - len(expected))
    assert batch["input_ids"][0].tolist() == row["input_ids"]
    assert targets(batch) == sum(length - 1 for length in row["piece_lengths"])


@pytest.mark.parametrize("architecture", MASKED)
@torch.no_grad()
def test_the_masked_loss_is_the_cross_entropy_at_the_masks(
    corpus: Any, tokenizer: Any, architecture: str
) -> None:
    """Also where the head runs at the masked positions alone."""
    torch.manual_seed(0)
    task = MaskedLM(corpus, start(architecture), seed=17, cache_gb=1)
    model = task.model().eval()
    batch = task.collate(rows(2, tokenizer), [0, 1])
    loss, sums = task.loss(model, batch)
    logits = model(**packed_inputs(model, batch["input_ids"], batch["segments"])).logits
    chances = functional.log_softmax(logits, dim=-1)
    places = (batch["labels"] != IGNORED).nonzero().tolist()
    expected = -sum(chances[i, j, batch["labels"][i, j]] for i, j in places)
    correct = sum(logits[i, j].argmax() == batch["labels"][i, j] for i, j in places)
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)
    assert int(sums["correct"]) == correct
    assert targets(batch) == len(places) > 50


@pytest.mark.parametrize("architecture", CAUSAL)
@torch.no_grad()
def test_the_causal_loss_is_that_of_every_document_by_itself(
    corpus: Any, tokenizer: Any, architecture: str
) -> None:
    torch.manual_seed(0)
    task = CausalLM(corpus, start(architecture), seed=17, cache_gb=1)
    model = task.model().eval()
    (row,) = given = rows(1, tokenizer)
    loss, _ = task.loss(model, task.collate(given, [0]))
    expected, at = 0.0, 0
    for length in row["piece_lengths"]:
        ids = torch.tensor([row["input_ids"][at : at + length]])
        # Transformers shifts the labels itself, and means.
        expected += float(model(input_ids=ids, labels=ids).loss) * (length - 1)
        at += length
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_metrics_are_means_over_targets(masked: MaskedLM) -> None:
    found = masked.metrics({"loss": 6.0, "targets": 3.0, "correct": 1.0})
    assert found == pytest.approx({"loss": 2.0, "perplexity": math.exp(2), "accuracy": 1 / 3})
    assert math.isfinite(masked.metrics({"loss": 9e9, "targets": 1, "correct": 0})["perplexity"])


def test_rows_are_those_of_the_corpus(masked: MaskedLM) -> None:
    found = masked.rows("train")
    assert (len(found), found.sequence_length) == (3, 32)
    assert masked.collate(found.take(torch.arange(3).numpy()), [0, 1, 2])["segments"].max() == 2


def test_a_task_goes_to_other_processes(masked: MaskedLM, tokenizer: Any, tmp_path: Path) -> None:
    copy = pickle.loads(pickle.dumps(masked))
    given = rows(1, tokenizer)
    assert torch.equal(copy.collate(given, [7])["labels"], masked.collate(given, [7])["labels"])
