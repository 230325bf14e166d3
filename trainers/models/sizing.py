"""Depth and width for a number of parameters, and the parameters of a depth and width.

Loss depends on how many parameters there are and hardly on their shape, from 32 to 128 units of
width a layer (Kaplan et al. 2020, fig. 5). BERT, GPT-2 and Qwen3 have about 64, which is what is
taken, with heads of 64 units as theirs. Pure; needs neither torch nor a model.
"""

import math
from collections.abc import Iterator

from trainers.models.shape import GATED, GROUPED, Shape

ASPECT = 64
"""Units of width a layer."""
RELATIVE_POSITIONS = 32
"""Kinds of distance that T5 knows."""
HEAD = 64
"""Units of width a head; the width is a multiple."""
TOLERANCE = 0.1
"""Of the number that was asked for. A small model cannot come much nearer: it has few layers."""


class NoSuchSize(ValueError):
    """No shape has about that many parameters."""


def sized(shape: Shape, vocabulary_size: int) -> Shape:
    """The shape with depth and width in place of `parameters`. Raises NoSuchSize."""
    wanted = shape.parameters
    if wanted is None:
        return shape
    candidates: list[tuple[float, Shape]] = []
    for width in _widths(shape):
        one, two = (count(_with(shape, width, layers=layers), vocabulary_size) for layers in (1, 2))
        layers = max(1, round((wanted - one) / (two - one)) + 1)
        candidate = _with(shape, width, layers)
        error = abs(count(candidate, vocabulary_size) - wanted) / wanted
        if error <= TOLERANCE:
            # A tenth off in number weighs as much as 1.5 times the aspect, or two thirds.
            distortion = abs(math.log2(width / layers / ASPECT)) + error / (TOLERANCE / 0.6)
            candidates.append((distortion, candidate))
        if one > wanted:
            break
    if not candidates:
        smallest = count(_with(shape, next(_widths(shape)), layers=1), vocabulary_size)
        raise NoSuchSize(
            f"no {shape.architecture} with a vocabulary of {vocabulary_size:,} has within 10 % of "
            f"{wanted:,} parameters; the smallest has {smallest:,}: ask for more, or set "
            "hidden_size, layers and heads"
        )
    return min(candidates, key=lambda each: each[0])[1]


def _widths(shape: Shape) -> Iterator[int]:
    step = HEAD * (shape.kv_heads or 1)  # heads share keys and values in equal groups
    for width in range(step, 2**17, step):
        if width < 1024 or width % (2 * HEAD) == 0:  # an even number of heads parts in two
            yield width


def _with(shape: Shape, width: int, layers: int) -> Shape:
    gated = shape.architecture in GATED
    sizes = {
        "parameters": None,
        "hidden_size": width,
        "layers": layers,
        "heads": width // HEAD,
        "intermediate_size": -(-width * 8 // 3 // 64) * 64 if gated else 4 * width,
    }
    return shape.model_copy(update=sizes)


def count(shape: Shape, vocabulary_size: int) -> int:
    """Parameters of a model of this shape with its prediction head, tied ones once."""
    width, inner = shape.hidden_size, shape.inner_size
    bias = 0 if shape.architecture in ("modernbert", "t5", *GROUPED) else 1
    norm = width * (1 + bias)
    keys = width // shape.heads * (shape.kv_heads or shape.heads)
    attention = 2 * width * (width + keys) + bias * 2 * (width + keys)
    gates = 2 if shape.architecture in GATED else 1
    feed_forward = (gates + 1) * width * inner + bias * (inner + width)
    layer = attention + feed_forward + 2 * norm
    tokens, positions = vocabulary_size * width, shape.max_positions * width
    dense = width * width + bias * width
    match shape.architecture:
        case "bert" | "electra":
            outside = tokens + positions + 2 * width + norm + dense + norm + vocabulary_size
        case "roberta":  # positions count on from the padding token, which is the first
            outside = tokens + positions + 3 * width + norm + dense + norm + vocabulary_size
        case "modernbert":  # embeddings have a norm, the first layer one less
            outside = tokens + norm + dense + norm + vocabulary_size
        case "gpt2":
            outside = tokens + positions + norm
        case "llama":
            outside = tokens + norm
        case "qwen3":
            outside = tokens + norm
            layer += 2 * (width // shape.heads)
        case "t5":  # a layer of the encoder, and one of the decoder with a second attention
            outside = tokens + 2 * (norm + RELATIVE_POSITIONS * shape.heads)
            layer += layer + attention + norm
    return outside + shape.layers * layer
