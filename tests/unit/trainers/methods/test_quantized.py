"""LoRA beside a base in few bits."""

from pathlib import Path
from typing import Literal

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from cluster.errors import GateRefused, UserError
from tests.adapters import Toy, bases
from trainers.methods import gate
from trainers.methods.adapt import adapt
from trainers.methods.config import Lora
from trainers.methods.gate import Probe
from trainers.methods.saving import write


@pytest.mark.parametrize("bits", [4, 8])
def test_what_was_learned_beside_a_rounded_base_passes_the_gate(
    bits: Literal[4, 8], tmp_path: Path
) -> None:
    bases(tmp_path)
    base = str(tmp_path / "causal")
    model = Toy(base, base, "causal").model()
    whole = sum(weight.nbytes for weight in model.model.layers.parameters())
    made = adapt(model, Lora(name="lora", rank=2, base_bits=bits))
    assert sum(one.nbytes for one in model.model.layers.parameters()) < whole
    inputs = gate.inputs(model.config)
    learner = torch.optim.SGD(made.trained.values(), lr=1.0)
    for _ in range(2):  # of the second matrices gradients are 0 at first
        learner.zero_grad()
        model(**inputs, labels=inputs["input_ids"]).loss.backward()
        learner.step()
    assert all(bool(one.grad.any()) for one in made.trained.values() if one.grad is not None)
    weights = {name: weight.detach() for name, weight in made.trained.items()}
    write(made, made.base, weights, tmp_path / "kept")
    with torch.no_grad():
        probe = Probe(inputs, model.eval()(**inputs).logits.float())
    elements = sum(weight.numel() for weight in weights.values())
    gate.check(tmp_path / "kept", probe, 1e-3, elements)
    with pytest.raises(GateRefused, match="read again gives other answers"):
        gate.check(tmp_path / "kept", Probe(inputs, probe.logits * 1.1), 1e-3, elements)


def test_a_model_without_layers_that_are_rounded_is_refused() -> None:
    """As GPT-2, whose layers are Transformers' Conv1D."""
    config = GPT2Config(n_embd=8, n_layer=1, n_head=1, vocab_size=50)
    with pytest.raises(UserError, match="base_bits: 4: 'gpt2' has no layers that bitsandbytes r"):
        adapt(GPT2LMHeadModel(config), Lora(name="lora", base_bits=4))
