"""How the parameters of an adapter are optimized, by their names. Pure."""

from trainers.methods.config import Adapting, Lora

FACTORS = ("ia3_l", "lora_E")
"""What scales, in tensors with two dimensions: to decay them to 0 would switch off what they scale.
"""


def rate_factor(name: str, adapter: Adapting | None) -> float:
    """Of the training's learning rate. LoRA+ has another one for the matrices B (Hayou et al.
    2024); a head, weights and biases, goes by the training's own."""
    if isinstance(adapter, Lora) and adapter.lora_plus is not None and ".lora_B." in name:
        return adapter.lora_plus
    return 1.0


def decays(name: str, dimensions: int) -> bool:
    """Whether weight decay applies: to matrices, not to norms, biases and factors."""
    return dimensions >= 2 and not any(f".{factor}." in name for factor in FACTORS)
