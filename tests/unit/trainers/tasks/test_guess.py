"""What a model that has learned nothing comes to, and whether a model is any better."""

import math
from typing import Any

import pytest

from tests.objectives import start
from trainers.corpora.feeding.feed import Tokenized
from trainers.engine import loop
from trainers.tasks.classify import Classify
from trainers.tasks.pretraining.causal_lm import CausalLM
from trainers.tasks.pretraining.replaced_tokens import ReplacedTokens
from trainers.tasks.pretraining.span_corruption import SpanCorruption
from trainers.tasks.task import Guess


def test_a_language_model_guesses_among_all_tokens(corpus: Any, tokenizer: Any) -> None:
    validation = Tokenized([[5]], [0])
    guess = CausalLM(corpus, start("llama"), 17, 1).guess(validation)
    assert guess[:3] == ("loss", math.log(len(tokenizer)), "min")
    assert guess.name == f"the logarithm of {len(tokenizer):,} tokens"
    with_sentinels = SpanCorruption(corpus, start("t5"), 17, 1).guess(validation)
    assert with_sentinels.value == math.log(len(tokenizer) + 100)


def test_electra_guesses_twice(corpus: Any, tokenizer: Any) -> None:
    task = ReplacedTokens(corpus, start("electra"), 17, 1, discriminator_weight=20.0)
    guess = task.guess(Tokenized([[5]], [0]))
    assert guess.value == math.log(len(tokenizer)) + 20 * math.log(2)


def test_a_classifier_guesses_the_most_frequent_label() -> None:
    task = Classify(None, start("bert"), "", ["bad", "fair", "good"], 64, 0.0, 0.0)  # type: ignore[arg-type]
    guess = task.guess(Tokenized([[5]] * 8, [0, 2, 2, 1, 2, 2, 0, 2]))
    assert guess[:3] == ("accuracy", 5 / 8, "max")
    assert guess.name == "the share of the most frequent label, 'good'"


@pytest.mark.parametrize(
    ("mode", "reached", "is_worse"),
    [
        ("min", 0.4, False),
        ("min", 0.5, False),
        ("min", 0.6, True),
        ("max", 0.6, False),
        ("max", 0.5, False),
        ("max", 0.4, True),
        ("min", math.nan, True),
        ("max", math.nan, True),
        ("min", math.inf, True),
    ],
)
def test_a_model_is_worse_than_a_guess(mode: Any, reached: float, is_worse: bool) -> None:
    assert Guess("loss", 0.5, mode, "a coin").is_better_than({"loss": reached}) == is_worse


def test_the_warning_has_both_figures_and_what_to_do() -> None:
    guess = Guess("loss", math.log(8000), "min", "the logarithm of 8,000 tokens")
    assert loop._warning(guess, {"loss": 9.25, "accuracy": 0.0}) == (
        "warning: validation loss 9.2500 is worse than guessing, 8.9872 (the logarithm of 8,000 "
        "tokens): set a lower learning_rate, or train for longer"
    )
