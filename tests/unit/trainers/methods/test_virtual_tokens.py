"""Virtual tokens in front of what is read: as answers are written, and in a model's positions."""

from pathlib import Path
from typing import Any

import pytest
import torch

from cluster.errors import UserError
from tests.adapters import Toy, learned
from trainers.methods.adapt import as_the_base
from trainers.models.build import positions_of, refuse_longer
from trainers.tasks.encoding import pad

CAUSAL = ("prefix", "prompt", "p_tuning")
BOTH = ("prompt", "p_tuning")
PROMPTS = [[7, 9, 11], [20, 6, 8, 9, 30, 12]]
PADDING, MOST = 0, 8


def adapted(folder: Path, kind: str, method: str) -> Any:
    return learned(folder / kind, kind, {"name": method, "tokens": 5}, by=1.0).model.eval()


@torch.no_grad()
def forced(model: Any, prompt: list[int], written: list[int]) -> torch.Tensor:
    """What is said of each token of an answer, at once and without keys and values that are kept:
    (tokens, vocabulary)."""
    if model.config.is_encoder_decoder:
        before = torch.tensor([[PADDING, *written[:-1]]])
        inputs = {"input_ids": torch.tensor([prompt]), "decoder_input_ids": before}
    else:
        inputs = {"input_ids": torch.tensor([prompt + written[:-1]])}
    logits: torch.Tensor = model(**inputs, use_cache=False).logits
    return logits[0, -len(written) :]


@pytest.mark.parametrize(
    ("kind", "method"), [*(("causal", one) for one in CAUSAL), *(("both", one) for one in BOTH)]
)
def test_answers_are_written_behind_them(folder: Path, kind: str, method: str) -> None:
    """One token after the other, of prompts that are padded, as each by itself."""
    model = adapted(folder, kind, method)
    is_both = model.config.is_encoder_decoder
    made = model.generate(
        **pad(PROMPTS, PADDING, "right" if is_both else "left"),
        max_new_tokens=MOST,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=PADDING,
        output_logits=True,
        return_dict_in_generate=True,
    )
    said = torch.stack(made.logits, dim=1)
    for row, prompt in enumerate(PROMPTS):
        written = made.sequences[row, -MOST:].tolist()
        assert torch.allclose(said[row], forced(model, prompt, written), atol=1e-4)
        with as_the_base(model):
            assert not torch.allclose(said[row], forced(model, prompt, written), atol=1e-2)


def test_they_take_room_of_a_models_positions(folder: Path) -> None:
    model = Toy(str(folder / "causal"), str(folder / "causal"), "causal").model()
    refuse_longer(model, "finetune.max_length", 59, in_front=5)
    with pytest.raises(UserError, match=r"max_length: 60 behind method\.tokens = 5 is over the 64"):
        refuse_longer(model, "finetune.max_length", 60, in_front=5)
    assert positions_of(model) == 64
    assert positions_of(adapted(folder, "causal", "prompt")) == 59


def test_a_prefix_in_an_encoder_decoder_is_refused(folder: Path) -> None:
    with pytest.raises(
        UserError, match="not for encoder-decoders such as 't5' yet; take prompt, p_"
    ):
        adapted(folder, "both", "prefix")
