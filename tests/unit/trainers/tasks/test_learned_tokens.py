"""The loss of learned tokens: of these and no others, the same however rows are put together."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from cluster.errors import UserError
from tests.objectives import start, validated
from trainers.models.build import Start, remarks
from trainers.tasks.chat.spec import Chat
from trainers.tasks.chat.task import ChatTask
from trainers.tasks.task import IGNORED

LENGTHS = (3, 17, 5, 29, 2, 11, 8)
Row = dict[str, Any]


def rows() -> list[Row]:
    """Seven uneven ones, of which about half is learned: of all the last token."""
    drawn = np.random.default_rng(17)
    made = []
    for length in LENGTHS:
        learned = drawn.random(length) < 0.5
        learned[-1] = True
        made.append({"input_ids": drawn.integers(5, 300, length), "learned": learned})
    return made


def task(tokenizer: Any, architecture: str = "llama", **keys: Any) -> ChatTask:
    made = ChatTask(Chat.model_validate(keys), None, start(architecture), "")
    object.__setattr__(made, "tokenizer", lambda: tokenizer)
    return made


@pytest.fixture(scope="module")
def model(tokenizer: Any) -> Any:
    torch.manual_seed(0)
    return task(tokenizer, max_length=32).model().eval()


def by_hand(model: Any, row: Row) -> float:
    ids = torch.from_numpy(row["input_ids"])[None]
    with torch.no_grad():
        losses = functional.cross_entropy(model(ids).logits[0, :-1], ids[0, 1:], reduction="none")
    return float(losses[torch.from_numpy(row["learned"])[1:]].sum())


def test_it_is_that_of_each_learned_token_after_those_before(tokenizer: Any, model: Any) -> None:
    of = task(tokenizer)
    for row in rows():
        batch = of.collate([row], [0])
        assert of.targets(batch) == row["learned"][1:].sum()
        assert float(of.loss(model, batch)[0]) == pytest.approx(by_hand(model, row), rel=1e-5)


@given(workers=st.integers(1, 3), size=st.integers(1, 4), packing=st.booleans())
def test_an_evaluation_is_the_same_at_any_number_of_workers(
    tokenizer: Any, model: Any, workers: int, size: int, packing: bool
) -> None:
    """ms-swift#9152, trl#6380: the mean is over learned tokens, not over batches or ranks."""
    every = rows()
    whole = validated(task(tokenizer, packing=False), model, [[row] for row in every])
    shares = [every[rank::workers] for rank in range(workers)]
    batches = [own[first : first + size] for own in shares for first in range(0, len(own), size)]
    assert validated(task(tokenizer, packing=packing), model, batches) == pytest.approx(
        whole, rel=1e-5
    )


@pytest.mark.parametrize("packing", [True, False])
def test_the_end_is_learned_though_it_fills_up_rows_too(tokenizer: Any, packing: bool) -> None:
    """trl#6357: labels are made before padding, by places and never by ids."""
    of = task(tokenizer, packing=packing)
    end = tokenizer.sep_token_id
    object.__setattr__(of, "pad_id", end)
    made = [
        {"input_ids": np.array([7, 8, end, 9, end]), "learned": np.array([0, 0, 1, 0, 1], bool)},
        {"input_ids": np.array([7, end]), "learned": np.array([False, True])},
    ]
    labels = of.collate(made, range(2))["labels"]
    assert labels[labels != IGNORED].tolist() == [end, end, end]


def test_a_tokenizer_without_padding_fills_up_with_its_end(tokenizer: Any) -> None:
    class Unpadded:
        pad_token_id = cls_token_id = bos_token_id = None
        sep_token_id, eos_token_id = None, 2

    assert task(Unpadded()).pad_id == 2


def test_the_longest_rows_are_as_long_as_can_be(tokenizer: Any) -> None:
    of = task(tokenizer, max_length=24, packing=False)
    batch = of.collate(of.longest_rows(3), range(3))
    assert batch["input_ids"].shape == (3, 24)
    assert of.targets(batch) == 3 * 23


def test_a_model_that_reads_both_sides_is_refused(tokenizer: Any) -> None:
    with pytest.raises(UserError, match=r"finetune\.base: 'bert' reads both sides of a token"):
        task(tokenizer, "bert", max_length=32).model()


@pytest.mark.parametrize(
    ("architecture", "keys", "why"),
    [
        ("opt", {}, "'opt' would not keep rows of one sequence apart"),
        ("llama", {"method": "prompt"}, "rows of one sequence would share the virtual tokens of"),
    ],
)
def test_where_rows_cannot_be_kept_apart_each_is_padded_and_that_is_told(
    tokenizer: Any, tmp_path: Path, architecture: str, keys: Any, why: str
) -> None:
    from transformers import AutoConfig

    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    of_opt = {"word_embed_proj_dim": 32, "ffn_dim": 32} if architecture == "opt" else {}
    config = AutoConfig.for_model(architecture, **sizes, **of_opt, max_position_embeddings=64)
    config.save_pretrained(tmp_path)
    for packing in (True, False):
        of = task(tokenizer, max_length=32, packing=packing, **keys)
        object.__setattr__(of, "start", Start(like=str(tmp_path)))
        told = remarks(of.model())
        assert (f"packing: {why}" in "".join(told)) == packing
        made = of.collate(rows(), range(len(rows())))
        assert len(made["input_ids"]) == len(rows())
        assert "segments" not in made
