"""What masked models learn from a packed sequence."""

import copy
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from cluster.errors import UserError
from cluster.store.storage import Storage
from tests.objectives import sequences, start
from tests.packed import corpus_of
from trainers.corpora.tokens.pack import pack_documents
from trainers.models.build import packed_inputs
from trainers.tasks.pretraining.config import MASKED
from trainers.tasks.pretraining.masked_lm import MaskedLM
from trainers.tasks.task import IGNORED


@pytest.fixture
def masked(corpus: Any) -> MaskedLM:
    return MaskedLM(corpus, start("bert"), seed=17, cache_gb=1, mask_probability=0.2)


def test_masks_have_the_shares_of_the_paper(masked: MaskedLM, tokenizer: Any) -> None:
    given = sequences(200, tokenizer)
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
    given = sequences(4, tokenizer)
    together = masked.collate(given, [10, 11, 12, 13])
    for place in range(4):
        alone = masked.collate(given[place : place + 1], [10 + place])
        for name, value in alone.items():
            assert torch.equal(value[0], together[name][place])
    same_text = masked.collate([given[0]] * 2, [10, 999])
    assert not torch.equal(same_text["labels"][0], same_text["labels"][1]), "in another epoch"


def test_masks_differ_by_seed(corpus: Any, tokenizer: Any) -> None:
    one, two = (
        MaskedLM(corpus, start("bert"), seed, cache_gb=1).collate(sequences(1, tokenizer), [3])[
            "labels"
        ]
        for seed in (1, 2)
    )
    assert not torch.equal(one, two)


@pytest.mark.parametrize("architecture", MASKED)
@torch.no_grad()
def test_the_masked_loss_is_the_cross_entropy_at_the_masks(
    corpus: Any, tokenizer: Any, architecture: str
) -> None:
    """Also where the head runs at the masked positions alone."""
    torch.manual_seed(0)
    task = MaskedLM(corpus, start(architecture), seed=17, cache_gb=1)
    model = task.model().eval()
    batch = task.collate(sequences(2, tokenizer), [0, 1])
    loss, sums = task.loss(model, batch)
    logits = model(**packed_inputs(model, batch["input_ids"], batch["segments"])).logits
    chances = functional.log_softmax(logits, dim=-1)
    places = (batch["labels"] != IGNORED).nonzero().tolist()
    expected = -sum(chances[i, j, batch["labels"][i, j]] for i, j in places)
    correct = sum(logits[i, j].argmax() == batch["labels"][i, j] for i, j in places)
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)
    assert int(sums["correct"]) == correct
    assert task.targets(batch) == len(places) > 50


def counts(**values: float) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(value) for name, value in values.items()}


def test_metrics_are_means_over_targets(masked: MaskedLM) -> None:
    found = masked.metrics(counts(loss=6.0, targets=3.0, correct=1.0))
    assert found == pytest.approx({"loss": 2.0, "perplexity": math.exp(2), "accuracy": 1 / 3})
    assert math.isfinite(masked.metrics(counts(loss=9e9, targets=1, correct=0))["perplexity"])


def test_rows_are_those_of_the_corpus(masked: MaskedLM) -> None:
    found = masked.rows("train")
    assert (len(found), found.sequence_length) == (3, 32)
    assert masked.collate(found.take(torch.arange(3).numpy()), [0, 1, 2])["segments"].max() == 2


def test_a_task_goes_to_other_processes(masked: MaskedLM, tokenizer: Any) -> None:
    copy = pickle.loads(pickle.dumps(masked))
    given = sequences(1, tokenizer)
    assert torch.equal(copy.collate(given, [7])["labels"], masked.collate(given, [7])["labels"])


def test_whole_words_are_masked_whole_and_as_often(corpus: Any, tokenizer: Any) -> None:
    """The tokens of a word share their fate, and the share of tokens stays what it was."""
    keys: dict[str, Any] = {"seed": 17, "cache_gb": 1, "mask_probability": 0.2}
    task = MaskedLM(corpus, start("bert"), whole_words=True, **keys)
    words = tokenizer("the foxhound overtakes", add_special_tokens=False)["input_ids"]
    counts = [len(tokenizer.encode(w, add_special_tokens=False)) for w in ("the", " foxhound")]
    assert max(counts) > 1, "a word of one piece shows nothing"
    row = {"input_ids": np.array([2, *words * 8, 3]), "piece_lengths": [2 + 8 * len(words)]}
    batch = task.collate([row] * 400, range(400))
    chosen = (batch["labels"] != IGNORED).numpy()
    assert chosen[:, 1:-1].mean() == pytest.approx(0.2, abs=0.02)
    numbers = task._words.numbers(row["input_ids"])
    for number in range(numbers[-1] + 1):
        of_word = chosen[:, numbers == number]
        assert (of_word.all(axis=1) == of_word.any(axis=1)).all()
    alone = MaskedLM(corpus, start("bert"), **keys).collate([row] * 400, range(400))
    assert not np.array_equal((alone["labels"] != IGNORED).numpy(), chosen)


def test_a_tokenizer_without_a_mask_is_refused(tokenizer: Any, tmp_path: Path) -> None:
    table = pack_documents([np.arange(5, 15, dtype=np.uint16)], 2, 3, 32, 0, len(tokenizer))
    other = corpus_of(Storage.at(str(tmp_path)), {"train": [table]})
    maskless = copy.deepcopy(tokenizer)
    maskless.mask_token = None
    maskless.save_pretrained(other.path / "tokenizer")
    with pytest.raises(UserError, match=r"corpora\.tokenizer\.base: .* no mask token"):
        MaskedLM(other, start("bert"), seed=1, cache_gb=1).model()
