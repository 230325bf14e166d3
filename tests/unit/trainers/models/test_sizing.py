"""A number of parameters becomes a sensible shape; counts are those of real models."""

import itertools
from typing import Any, get_args

import pytest
import torch
import transformers

from cluster.errors import UserError
from tests.objectives import HEADS
from trainers.models.build import from_shape, parameter_count
from trainers.models.shape import GROUPED, Shape
from trainers.models.sizing import NoSuchSize, count, sized
from trainers.tasks.pretraining.config import SUITED

ARCHITECTURES = get_args(Shape.model_fields["architecture"].annotation)


def shape(**keys: Any) -> Shape:
    return Shape.model_validate(keys)


def real_count(given: Shape, tokenizer: Any, **config: Any) -> int:
    """Of the model itself, on a device without memory."""
    head = next(head for head, suited in SUITED.items() if given.architecture in suited)
    with torch.device("meta"):
        return parameter_count(
            getattr(transformers, HEADS[head]).from_config(from_shape(given, tokenizer, **config))
        )


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_counts_are_those_of_real_models(architecture: str, tokenizer: Any) -> None:
    sizes = {"hidden_size": 96, "layers": 3, "heads": 4, "max_positions": 40}
    given = shape(architecture=architecture, **sizes)
    assert count(given, len(tokenizer)) == real_count(given, tokenizer)
    if architecture in GROUPED:
        grouped = shape(architecture=architecture, kv_heads=2, intermediate_size=72, **sizes)
        assert count(grouped, len(tokenizer)) == real_count(grouped, tokenizer)


@pytest.mark.parametrize(
    ("asked", "vocabulary_size"),
    [("5M", 8_000), ("30M", 21_128), ("120M", 32_000), ("1.5B", 50_000), ("7B", 128_000)],
)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_number_asked_for_is_met(architecture: str, asked: str, vocabulary_size: int) -> None:
    given = shape(architecture=architecture, parameters=asked)
    assert given.parameters is not None
    found = sized(given, vocabulary_size)
    assert found.parameters is None
    tolerance = 0.1 if given.parameters < 1e8 else 0.03
    assert count(found, vocabulary_size) == pytest.approx(given.parameters, rel=tolerance)
    assert found.hidden_size % 64 == found.inner_size % 64 == 0
    assert found.heads * 64 == found.hidden_size
    assert 32 <= found.hidden_size / found.layers <= 128, "what Kaplan et al. found to be alike"


def test_the_model_that_is_built_has_the_number_asked_for(tokenizer: Any) -> None:
    given = shape(architecture="qwen3", parameters="120M", kv_heads=4)
    assert real_count(given, tokenizer) == pytest.approx(120e6, rel=0.1)


def test_berts_number_gives_berts_shape() -> None:
    found = sized(shape(architecture="bert", parameters="110M"), 30_522)
    assert (found.layers, found.hidden_size, found.heads) == (12, 768, 12)


def test_groups_of_heads_stay_equal() -> None:
    for kv_heads, asked in itertools.product((2, 4, 8), ("200M", "3B")):
        found = sized(shape(architecture="llama", parameters=asked, kv_heads=kv_heads), 32_000)
        assert found.heads % kv_heads == 0


def test_too_few_for_the_vocabulary_is_refused(tokenizer: Any) -> None:
    with pytest.raises(NoSuchSize, match=r"vocabulary of 50,000 .* the smallest has 3,"):
        sized(shape(parameters="1M"), 50_000)
    with pytest.raises(UserError, match=r"pretrain\.model\.parameters: no bert with"):
        from_shape(shape(parameters=1000), tokenizer)
