"""Answers that join and leave a batch are those that a model gives alone."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, T5Config

from trainers.tasks.writing.batcher import Asked, Batcher, Lost, Step
from trainers.tasks.writing.sampling import Sampling

END, VOCABULARY = 1, 40
PROMPTS = [[5, 6, 7, 8, 9, 10], [11], [12, 13, 14], [5, 6], [30, 2, 9, 9], [7]]
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "initializer_range": 0.5,
}
WINDOW = {"sliding_window": 4}
ARCHITECTURES = {
    "llama": {},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64},
    "qwen2": {},
    "qwen3": {},
    "mistral": WINDOW,
    "phi3": {"pad_token_id": 0, **WINDOW},
    "gemma3_text": {
        **WINDOW,
        "query_pre_attn_scalar": 8,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
    },
}


def model_of(architecture: str) -> Any:
    torch.manual_seed(3)
    config = CONFIG_MAPPING[architecture](**{**SIZES, **ARCHITECTURES[architecture]})
    return AutoModelForCausalLM.from_config(config).eval()


def asked(place: int, most: int = 12, **more: Any) -> Asked:
    return Asked(str(place), PROMPTS[place], {END}, most, **more)


def written(batcher: Batcher, arriving: Sequence[Sequence[Asked]]) -> dict[str, list[Step]]:
    """All tokens of answers of which some arrive before each step."""
    found: dict[str, list[Step]] = {}
    left = [*arriving]
    while left or batcher.is_busy:
        for one in left.pop(0) if left else ():
            batcher.add(one)
        for step in batcher.step():
            assert isinstance(step, Step)
            found.setdefault(step.id, []).append(step)
    return found


@torch.no_grad()
def alone(model: Any, prompt: Sequence[int], most: int) -> list[int]:
    """Greedy, a token at a time, without a cache."""
    ids: list[int] = []
    while len(ids) < most and END not in ids:
        ids.append(int(model(torch.tensor([[*prompt, *ids]])).logits[0, -1].argmax()))
    return ids


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_an_answer_is_the_same_whoever_joins_and_leaves(architecture: str) -> None:
    model = model_of(architecture)
    mosts = [12, 3, 9, 1, 12, 7]
    all_asked = [asked(place, most) for place, most in enumerate(mosts)]
    found = written(Batcher(model, rows=3), [all_asked[:1], all_asked[1:4], [], all_asked[4:]])
    for place, (prompt, most) in enumerate(zip(PROMPTS, mosts, strict=True)):
        expected = alone(model, prompt, most)
        steps = found[str(place)]
        assert [step.drawn.token for step in steps] == expected
        *before, last = [step.finish_reason for step in steps]
        assert before == [None] * (len(expected) - 1)
        assert last == ("stop" if expected[-1] == END else "length")


def test_no_more_are_written_at_once_than_there_are_rows() -> None:
    batcher = Batcher(model_of("llama"), rows=2)
    for place in range(4):
        batcher.add(asked(place))
    batcher.step()
    assert batcher.counts == (2, 2)


@pytest.mark.parametrize("steps", [0, 2])
def test_what_is_cancelled_is_gone_before_the_next_step(steps: int) -> None:
    batcher = Batcher(model_of("llama"), rows=2)
    batcher.add(asked(0))
    batcher.add(asked(2))
    for _ in range(steps):
        batcher.step()
    batcher.cancel("0")
    assert "0" not in {step.id for step in batcher.step()}
    assert batcher.counts == (1, 0)


def test_a_seed_gives_the_same_answer_among_any_others() -> None:
    model = model_of("llama")
    warm = Sampling(temperature=1.5, top_p=0.9, seed=7)
    first = asked(0, sampling=warm)
    others = [asked(place, sampling=Sampling(temperature=1.0)) for place in (1, 2)]
    alone_ = written(Batcher(model, rows=4), [[first]])
    among = written(Batcher(model, rows=4), [others, [first]])
    tokens = [[step.drawn.token for step in each["0"]] for each in (alone_, among)]
    assert tokens[0] == tokens[1]
    assert tokens[0] != alone(model, PROMPTS[0], 12), "it was drawn"


@torch.no_grad()
def test_log_probabilities_are_of_the_model_itself() -> None:
    model = model_of("llama")
    sampling = Sampling(temperature=0.3, seed=1, logprobs=3, logit_bias={4: 100.0})
    (first, *_) = written(Batcher(model, rows=1), [[asked(0, sampling=sampling)]])["0"]
    expected = model(torch.tensor([PROMPTS[0]])).logits[0, -1].log_softmax(-1)
    assert first.drawn.token == 4, "by its bias"
    assert first.drawn.logprob == pytest.approx(float(expected[4]), abs=1e-5)
    best = expected.topk(3)
    assert [token for token, _ in first.drawn.top] == best.indices.tolist()
    assert [value for _, value in first.drawn.top] == pytest.approx(best.values.tolist(), abs=1e-5)


def test_a_grammar_decides_what_may_come() -> None:
    class Counting:
        """2, 3, 4 and then the end."""

        place = 0

        def mask(self, logits: Tensor) -> None:
            allowed = [2, 3, 4, END][self.place]
            logits[torch.arange(len(logits)) != allowed] = -torch.inf

        def accept(self, token: int) -> None:
            self.place += 1

    found = written(Batcher(model_of("llama"), rows=2), [[asked(0, grammar=Counting()), asked(1)]])
    assert [step.drawn.token for step in found["0"]] == [2, 3, 4, END]
    assert [step.drawn.token for step in found["1"]] == alone(model_of("llama"), PROMPTS[1], 12)


def test_a_penalty_keeps_a_token_from_coming_again() -> None:
    sampling = Sampling(presence_penalty=2.0, frequency_penalty=2.0, logit_bias={9: 3.0})
    model = model_of("llama")
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(0.01)  # so that the bias decides
    plain = written(Batcher(model, rows=1), [[asked(0, sampling=Sampling(logit_bias={9: 3.0}))]])
    assert {step.drawn.token for step in plain["0"]} == {9}
    found = written(Batcher(model, rows=1), [[asked(0, sampling=sampling)]])["0"]
    assert [step.drawn.token for step in found].count(9) == 1


def test_an_answer_waits_for_its_adapter_and_is_lost_with_it() -> None:
    batcher = Batcher(model_of("llama"), rows=2, ready=lambda adapter, in_use: {}[adapter])
    batcher.add(asked(0, adapter="gone"))
    batcher.add(asked(1))
    lost, step = batcher.step()
    assert isinstance(lost, Lost)
    assert (lost.id, str(lost.error)) == ("0", "'gone'")
    assert step.id == "1"
    waiting = Batcher(model_of("llama"), rows=2, ready=lambda adapter, in_use: False)
    waiting.add(asked(0, adapter="later"))
    assert waiting.step() == []
    assert waiting.counts == (0, 1)


def test_models_that_cannot_be_held_so_are_refused() -> None:
    encoder_decoder = AutoModelForCausalLM.from_config(CONFIG_MAPPING["llama"](**SIZES))
    encoder_decoder.config = T5Config()
    with pytest.raises(ValueError, match="an encoder-decoder"):
        Batcher(encoder_decoder, rows=1)
    linear = model_of("llama")
    linear.config.layer_types = ["linear_attention"] * 4
    with pytest.raises(ValueError, match="layers of linear_attention"):
        Batcher(linear, rows=1)


def test_what_was_dropped_leaves_room() -> None:
    batcher = Batcher(model_of("llama"), rows=1)
    batcher.add(asked(0))
    batcher.add(asked(1))
    batcher.step()
    assert batcher.clear() == ["0", "1"]
    assert not batcher.is_busy
    found = written(batcher, [[asked(2)]])
    assert [step.drawn.token for step in found["2"]] == alone(model_of("llama"), PROMPTS[2], 12)
