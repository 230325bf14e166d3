"""Which spans are gone, and what an encoder-decoder learns of them."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from tests.objectives import sequences, start
from trainers.tasks.pretraining.span_corruption import SENTINELS, SpanCorruption, corrupt, logits
from trainers.tasks.task import IGNORED

MARKS = np.arange(1000, 1000 + SENTINELS)


@pytest.fixture
def task(corpus: Any) -> SpanCorruption:
    return SpanCorruption(corpus, start("t5"), seed=17, cache_gb=1)


@pytest.fixture
def model(task: SpanCorruption) -> Any:
    torch.manual_seed(0)
    return task.model().eval()


def restored(left: list[int], gone: list[int]) -> list[int]:
    """The document, from what the encoder and the decoder have of it."""
    spans: dict[int, list[int]] = {}
    for token in gone:
        if token >= 1000:
            spans[token] = []
        else:
            spans[max(spans)].append(token)
    return [one for token in left for one in (spans[token] if token >= 1000 else [token])]


@pytest.mark.parametrize("length", [2, 3, 7, 20, 126, 512])
def test_a_document_is_in_what_is_left_and_what_is_gone(length: int) -> None:
    document = np.arange(length)
    left, gone = corrupt(document, MARKS, 0.15, 3.0, np.random.default_rng(length))
    assert restored(left.tolist(), gone.tolist()) == document.tolist()
    spans = int((gone >= 1000).sum())
    assert len(gone) - spans == max(1, round(0.15 * length))
    assert spans == max(1, round((len(gone) - spans) / 3))
    assert left[left >= 1000].tolist() == gone[gone >= 1000].tolist() == MARKS[:spans].tolist()
    assert left[0] == 0, "the first stays"


def test_very_long_documents_have_longer_spans() -> None:
    left, gone = corrupt(np.zeros(9000, int), MARKS[:10], 0.15, 3.0, np.random.default_rng(0))
    assert (gone >= 1000).sum() == 10
    assert len(left) + len(gone) == 9000 + 20


def test_spans_are_anywhere_and_of_three_tokens_in_the_mean() -> None:
    draw = np.random.default_rng(0)
    gone_at, sizes = np.zeros(100), []
    for _ in range(2000):
        _, gone = corrupt(np.arange(100), MARKS, 0.15, 3.0, draw)
        gone_at[gone[gone < 1000]] += 1 / 2000
        sizes += np.diff(np.flatnonzero(np.append(gone, 1000) >= 1000) - 1).tolist()
    assert np.mean(sizes) - 1 == pytest.approx(3.0)
    assert gone_at.mean() == pytest.approx(0.15)
    assert gone_at[5:-10].std() < 0.03
    assert {1, 3, 6} < {size - 1 for size in sizes}


def test_a_single_token_stays() -> None:
    left, gone = corrupt(np.array([7]), MARKS, 0.15, 3.0, np.random.default_rng(0))
    assert (left.tolist(), gone.tolist()) == ([7], [])


def test_what_the_decoder_reads_is_what_it_wrote_before(
    task: SpanCorruption, tokenizer: Any
) -> None:
    begin, end, pad = tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id
    given = sequences(2, tokenizer)
    batch = task.collate(given, [3, 4])
    first = len(tokenizer)
    marks = task.tokenizer().convert_tokens_to_ids(["<extra_id_0>", "<extra_id_99>"])
    assert marks == [first, first + 99]
    for row in range(2):
        at = 0
        for number, size in enumerate(given[row]["piece_lengths"], start=1):
            here = batch["segments"][row] == number
            there = batch["decoder_segments"][row] == number
            read = batch["input_ids"][row][here].tolist()
            written = batch["labels"][row][there].tolist()
            assert (read[0], read[-1]) == (begin, end)
            original = list(given[row]["input_ids"][at + 1 : at + size - 1])
            at += size
            if len(original) == 1:
                assert (read[1:-1], written) == (original, [])
                continue
            assert written[-1] == end
            lifted = [[token + 1000 if token >= first else token for token in each]
                      for each in (read[1:-1], written[:-1])]  # fmt: skip
            assert restored(*lifted) == original
            assert batch["decoder_input_ids"][row][there].tolist() == [pad, *written[:-1]]
    outside = batch["decoder_segments"] == 0
    assert torch.equal(outside, batch["labels"] == IGNORED)


def test_a_begin_token_that_is_not_the_tokenizers_own_is_not_read(
    task: SpanCorruption, tokenizer: Any
) -> None:
    """T5 writes none, so that a packed row has its end token in that place too."""
    given = sequences(1, tokenizer)
    whole = task.collate(given, [0])["input_ids"]
    sentinels, pad, skipped = task._tokens
    assert skipped == 0
    task.__dict__["_tokens"] = sentinels, pad, 1
    without = task.collate(given, [0])["input_ids"]
    assert without[0].tolist() == [
        one for one in whole[0].tolist() if one != tokenizer.cls_token_id
    ]


def test_spans_follow_from_the_samples_number_alone(task: SpanCorruption, tokenizer: Any) -> None:
    given = sequences(4, tokenizer)
    together = pickle.loads(pickle.dumps(task)).collate(given, [10, 11, 12, 13])
    for place in range(4):
        alone = task.collate(given[place : place + 1], [10 + place])
        for name, value in alone.items():
            width = value.shape[1]
            assert torch.equal(value[0], together[name][place, :width])
    again = task.collate([given[0]] * 2, [10, 999])["labels"]
    assert not torch.equal(again[0], again[1]), "in another epoch"


@torch.no_grad()
def test_the_loss_is_that_of_every_document_by_itself(
    task: SpanCorruption, model: Any, tokenizer: Any
) -> None:
    """As Transformers computes it, which shifts the labels itself, and means."""
    batch = task.collate(sequences(2, tokenizer), [0, 1])
    loss, sums = task.loss(model, batch)
    expected, correct = 0.0, 0
    for row in range(2):
        for number in (1, 2, 3):
            ids = batch["input_ids"][row][batch["segments"][row] == number][None]
            labels = batch["labels"][row][batch["decoder_segments"][row] == number][None]
            if labels.numel():
                alone = model(input_ids=ids, labels=labels)
                expected += float(alone.loss) * labels.numel()
                correct += int((alone.logits.argmax(-1) == labels).sum())
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    assert int(sums["correct"]) == correct
    assert task.targets(batch) > 80


@torch.no_grad()
def test_packed_documents_do_not_see_each_other(
    task: SpanCorruption, model: Any, tokenizer: Any
) -> None:
    batch = task.collate(sequences(1, tokenizer), [0])
    found = logits(model, batch)
    assert found.isfinite().all()
    changed = {name: value.clone() for name, value in batch.items()}
    changed["input_ids"][batch["segments"] == 3] = 7
    changed["decoder_input_ids"][batch["decoder_segments"] == 3] = 7
    after = logits(model, changed)
    first, last = (batch["decoder_segments"] == number for number in (1, 3))
    torch.testing.assert_close(after[first], found[first])
    assert not torch.allclose(after[last], found[last])


def test_a_saved_model_is_plain_transformers_with_its_sentinels(
    task: SpanCorruption, model: Any, tmp_path: Path
) -> None:
    model.save_pretrained(tmp_path)
    task.tokenizer().save_pretrained(tmp_path)
    plain = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    assert plain.config.model_type == "t5"
    assert torch.equal(plain.shared.weight, model.shared.weight)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.encode("<extra_id_1>", add_special_tokens=False) == [
        plain.config.vocab_size - SENTINELS + 1
    ]
