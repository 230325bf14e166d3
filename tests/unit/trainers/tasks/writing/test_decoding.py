"""Answers are the same whatever else is in their batch, and always end."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, LlamaConfig, T5Config

from trainers.tasks.task import IGNORED
from trainers.tasks.writing.decoding import Writer, Written
from trainers.tasks.writing.forced import forced

PAD, END, VOCABULARY = 0, 1, 40
PROMPTS = [[5, 6, 7, 8, 9, 10], [11], [12, 13, 14], [5, 6]]


def llama() -> Any:
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        initializer_range=0.5,
    )
    return AutoModelForCausalLM.from_config(config).eval()


def t5() -> Any:
    torch.manual_seed(3)
    config = T5Config(
        vocab_size=VOCABULARY,
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=2,
        num_heads=2,
        decoder_start_token_id=PAD,
        initializer_factor=3.0,
    )
    return AutoModelForSeq2SeqLM.from_config(config).eval()


def by_hand(model: Any, prompt: Sequence[int], stop_ids: Sequence[int], most: int) -> Written:
    """Greedy, a token at a time, without a cache or padding."""
    written: list[int] = []
    for _ in range(most):
        if model.config.is_encoder_decoder:
            begun = torch.tensor([[PAD, *written]])
            logits = model(input_ids=torch.tensor([prompt]), decoder_input_ids=begun).logits
        else:
            logits = model(torch.tensor([[*prompt, *written]])).logits
        following = int(logits[0, -1].argmax())
        if following in stop_ids:
            return Written(written, "stop")
        written.append(following)
    return Written(written, "length")


@pytest.mark.parametrize("build", [llama, t5])
def test_each_answer_is_as_if_it_were_alone(build: Any) -> None:
    model = build()
    endless = [by_hand(model, prompt, [], 8).ids for prompt in PROMPTS]
    stop_ids = [endless[0][3], endless[2][5]]
    writer = Writer(model, stop_ids, PAD, 8)
    expected = [by_hand(model, prompt, stop_ids, 8) for prompt in PROMPTS]
    assert {one.finish_reason for one in expected} >= {"stop"}
    assert writer.write(PROMPTS) == expected
    assert [*map(writer.write, [[prompt] for prompt in PROMPTS])] == [[one] for one in expected]


@pytest.mark.parametrize("stop_ids", [[], [VOCABULARY - 1]])
def test_an_answer_ends_at_its_most_tokens(stop_ids: list[int]) -> None:
    model = llama()
    model.lm_head.weight.data[VOCABULARY - 1] = 0  # no logit of it is the largest
    (written,) = Writer(model, stop_ids, PAD, 5).write(PROMPTS[:1])
    assert (len(written.ids), written.finish_reason) == (5, "length")


def test_what_ends_a_text_may_be_its_padding() -> None:
    model = llama()
    (first, *_) = by_hand(model, PROMPTS[0], [], 8).ids
    writer = Writer(model, [first], first, 8)
    assert writer.write(PROMPTS) == [by_hand(model, prompt, [first], 8) for prompt in PROMPTS]


def test_habits_of_a_models_own_config_do_not_count() -> None:
    model = llama()
    expected = by_hand(model, PROMPTS[0], [], 8)
    model.generation_config.update(repetition_penalty=50.0, do_sample=True, min_new_tokens=7)
    assert Writer(model, [], PAD, 8).write(PROMPTS[:1]) == [expected]


def test_a_device_without_memory_takes_fewer_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = llama()
    writer, sizes, generate = Writer(model, [], PAD, 8), [], model.generate

    def small(**inputs: Any) -> Any:
        sizes.append(len(inputs["input_ids"]))
        if sizes[-1] > 2:
            raise torch.OutOfMemoryError
        return generate(**inputs)

    monkeypatch.setattr(model, "generate", small)
    writer._limit.tokens = 64
    assert writer.write(PROMPTS) == [by_hand(model, prompt, [], 8) for prompt in PROMPTS]
    assert max(sizes[1:]) <= 2


def test_losses_are_of_the_learned_tokens_of_each_row() -> None:
    model = llama()
    rows = [
        {"input_ids": [5, 6, 7, 8], "labels": [IGNORED, IGNORED, 7, 8]},
        {"input_ids": [9, 10], "labels": [IGNORED, 10]},
        {"input_ids": [9, 10], "labels": [9, IGNORED]},  # the first has nothing before it
    ]
    found = forced(model, rows, PAD)
    for row, sums in zip(rows, found, strict=True):
        ids, labels = (torch.tensor(row[name]) for name in ("input_ids", "labels"))
        logits = model(ids[None]).logits[0, :-1]
        expected = torch.nn.functional.cross_entropy(logits, labels[1:], reduction="sum")
        assert sums.loss == pytest.approx(float(expected), abs=1e-5)
        assert sums.right == int((logits.argmax(-1) == labels[1:]).sum())
    assert [one.targets for one in found] == [2, 1, 0]


def test_losses_are_of_fewer_rows_at_once_where_memory_is_short() -> None:
    model, sizes = llama(), []
    rows = [{"input_ids": [5, 6, 7 + n], "labels": [5, 6, 7 + n]} for n in range(9)]
    expected = forced(model, rows, PAD)

    def small(module: Any, _: Any, inputs: dict[str, torch.Tensor]) -> None:
        sizes.append(len(inputs["input_ids"]))
        if sizes[-1] > 5:
            raise torch.OutOfMemoryError

    model.register_forward_pre_hook(small, with_kwargs=True)
    found = forced(model, rows, PAD)
    assert [one.loss for one in found] == pytest.approx([one.loss for one in expected], rel=1e-5)
    assert sizes[0] == 9
    assert max(sizes[-2:]) <= 5


def test_an_encoder_decoder_learns_all_of_its_target() -> None:
    model = t5()
    rows = [{"input_ids": [5, 6, 7], "labels": [8, END]}, {"input_ids": [9], "labels": [10, 11, 1]}]
    found = forced(model, rows, PAD)
    for row, sums in zip(rows, found, strict=True):
        ids, labels = (torch.tensor([row[name]]) for name in ("input_ids", "labels"))
        mean = float(model(input_ids=ids, labels=labels).loss)
        assert sums.loss == pytest.approx(mean * len(row["labels"]), abs=1e-4)
        assert sums.targets == len(row["labels"])
