"""How large the trainings are: for one GPU of the H200's class, and in small for CPUs."""

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Sizes:
    gpus: int
    """Of a worker, and of a replica."""
    cpus: int
    precisions: tuple[str, str]
    llama: Mapping[str, Any]
    """The shape that every ZeRO stage trains, and that adapters are put into."""
    vocabulary_size: int
    sequence_length: int
    batch_size: int
    micro_batch_size: int
    train_minutes: float
    """Of each training: as many steps as it does in that time."""
    text_bytes: int
    packed: Mapping[str, Any]
    """The shape whose loss is compared, packed and unpacked, in chunks and of whole logits."""
    large_vocabulary: int
    """Of the loss in chunks."""
    chats: int
    """Conversations to learn, at most."""
    encoder: Mapping[str, Any]
    """The shape that is pretrained, fine-tuned and served."""
    checkpoint_steps: int
    """Of its pretraining: a second or so."""
    rows: int
    """Labelled, at most."""
    scored: int
    """Rows that `score` answers."""


GPU = Sizes(
    gpus=1,
    cpus=8,
    precisions=("bf16", "fp16"),
    # 1.09 billion parameters.
    llama={"hidden_size": 2048, "layers": 20, "heads": 16, "intermediate_size": 5632},
    vocabulary_size=32_000,
    sequence_length=2048,
    batch_size=16,
    micro_batch_size=8,
    train_minutes=0.1,
    text_bytes=6_000_000,
    packed={"hidden_size": 1024, "layers": 4, "heads": 16},
    large_vocabulary=150_000,
    chats=256,
    encoder={"hidden_size": 384, "layers": 6, "heads": 12, "intermediate_size": 1536},
    checkpoint_steps=30,
    rows=20_000,
    scored=100_000,
)
CPU = Sizes(
    gpus=0,
    cpus=1,
    precisions=("bf16", "fp32"),  # CPUs have no fp16 to train in
    llama={"hidden_size": 64, "layers": 2, "heads": 2},
    vocabulary_size=1000,
    sequence_length=128,
    batch_size=8,
    micro_batch_size=4,
    train_minutes=0.05,
    text_bytes=300_000,
    packed={"hidden_size": 64, "layers": 2, "heads": 2},
    large_vocabulary=20_000,
    chats=64,
    encoder={"hidden_size": 64, "layers": 2, "heads": 2, "intermediate_size": 128},
    checkpoint_steps=5,
    rows=1000,
    scored=500,
)


def sizes(on_cpu: bool) -> Sizes:
    return CPU if on_cpu else GPU
