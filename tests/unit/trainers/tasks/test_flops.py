"""FLOPs of a batch, by hand and as torch counts them; what is not computed does not count."""

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.objectives import LENGTH, sequences, start
from trainers.models.build import Start
from trainers.models.shape import Shape
from trainers.tasks.classify.spec import Classify
from trainers.tasks.classify.task import ClassifyTask
from trainers.tasks.pretraining.causal_lm import CausalLM
from trainers.tasks.pretraining.masked_lm import MaskedLM
from trainers.tasks.pretraining.replaced_tokens import ReplacedTokens
from trainers.tasks.pretraining.span_corruption import SpanCorruption
from trainers.tasks.task import IGNORED, Batch, lengths

WIDTH = 32
"""Of the tiny models of one layer."""
BERT_LAYER = 4 * (WIDTH + 1) * WIDTH + (WIDTH + 1) * 4 * WIDTH + (4 * WIDTH + 1) * WIDTH + 4 * WIDTH


def counted(task: Any, model: Any, batch: Batch) -> float:
    """As torch counts the matrix products of a pass forward and back."""
    for part in getattr(model, "parts", {"": model}).values():
        part.set_attn_implementation("eager")  # the counter sees no fused attention on a CPU
    model.train()
    with FlopCounterMode(display=False) as counter:
        task.loss(model, batch)[0].backward()
    return float(counter.get_total_flops())


def full(count: int, tokenizer: Any) -> list[dict[str, Any]]:
    """Sequences without padding, of one document."""
    return [
        {"input_ids": row["input_ids"][:121], "piece_lengths": [121]}
        for row in sequences(count, tokenizer)
    ]


def test_masked_lm_by_hand(corpus: Any, tokenizer: Any) -> None:
    """A BERT: every token goes through the layer, and the masked ones alone through a square
    matrix, a norm and the table of embeddings."""
    task = MaskedLM(corpus, start("bert"), seed=17, cache_gb=1)
    batch = task.collate(sequences(2, tokenizer), [0, 1])
    tokens, masked = int((batch["segments"] != 0).sum()), task.targets(batch)
    assert 0 < masked < 0.25 * tokens
    embedding_norm = 2 * WIDTH
    head = (WIDTH + 1) * WIDTH + 2 * WIDTH + (WIDTH + 1) * len(tokenizer)
    products = tokens * (BERT_LAYER + embedding_norm) + masked * head
    pairs = sum(int(length) ** 2 for length in lengths(batch))
    assert task.flops(task.model())(batch) == 6 * products + 12 * WIDTH * pairs


def test_a_llama_by_hand(corpus: Any, tokenizer: Any) -> None:
    """Two layers, of four square matrices of attention, three of the feed-forward layer and two
    norms each; a last norm; the output layer, which is the table of embeddings."""
    sizes = {"hidden_size": 64, "layers": 2, "heads": 2, "intermediate_size": 128}
    shape = Shape.model_validate({"architecture": "llama", **sizes})
    task = CausalLM(corpus, Start(shape=shape), seed=17, cache_gb=1)
    batch = task.collate(full(3, tokenizer), range(3))
    layer = 4 * 64 * 64 + 3 * 64 * 128 + 2 * 64
    body, head = 2 * layer + 64, 64 * len(tokenizer)
    expected = 3 * 121 * (6 * body + 12 * 2 * 64 * 121) + 3 * 120 * 6 * head
    assert task.flops(task.model())(batch) == expected


def classifier(tokenizer: Any) -> tuple[Any, Any]:
    task = ClassifyTask(Classify(dropout=0.0), None, start("bert"), "")
    object.__setattr__(task, "tokenizer", lambda: tokenizer)
    return task, task.model()


def test_a_classifiers_head_sees_one_place_of_a_text(tokenizer: Any) -> None:
    """And padding, which is as wide as the longest text, is none of its tokens."""
    task, model = classifier(tokenizer)
    texts = [{"input_ids": [5] * length, "label": 0} for length in (10, 30)]
    batch = task.collate(texts, [0, 1])
    pooler, output, embedding_norm = (WIDTH + 1) * WIDTH, (WIDTH + 1) * 2, 2 * WIDTH
    body = BERT_LAYER + embedding_norm
    expected = 6 * (40 * body + 2 * (pooler + output)) + 12 * WIDTH * (10**2 + 30**2)
    assert task.flops(model)(batch) == expected


@pytest.mark.parametrize(
    ("kind", "architecture"),
    [
        (MaskedLM, "bert"),
        (MaskedLM, "modernbert"),
        (MaskedLM, "roberta"),
        (CausalLM, "llama"),
        (CausalLM, "gpt2"),
        (ReplacedTokens, "electra"),
        (SpanCorruption, "t5"),
    ],
)
def test_it_is_what_torch_counts(corpus: Any, tokenizer: Any, kind: Any, architecture: str) -> None:
    sizes = {"hidden_size": 128, "layers": 2, "heads": 2, "max_positions": LENGTH}
    shape = Shape.model_validate({"architecture": architecture, **sizes})
    torch.manual_seed(0)
    task = kind(corpus, Start(shape=shape), seed=17, cache_gb=1)
    model = task.model()
    flops = task.flops(model)
    batch = task.collate(full(4, tokenizer), range(4))
    assert flops(batch) == pytest.approx(counted(task, model, batch), rel=0.03)


def test_nothing_to_predict_is_no_work_for_the_head(corpus: Any, tokenizer: Any) -> None:
    task = MaskedLM(corpus, start("bert"), seed=17, cache_gb=1)
    model = task.model()
    flops = task.flops(model)
    batch = task.collate(sequences(2, tokenizer), [0, 1])
    none = {**batch, "labels": torch.full_like(batch["labels"], IGNORED)}
    assert 0 < flops(none) < flops(batch)
