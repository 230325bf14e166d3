"""What a model that has learned nothing comes to, and whether a model is any better."""

import math
from pathlib import Path
from typing import Any

import pytest

from cluster.store.storage import Storage
from tests.fakes import published
from tests.objectives import start
from tests.rows import InMemory
from trainers.engine import loop
from trainers.tasks.classify.spec import Classify
from trainers.tasks.classify.task import ClassifyTask
from trainers.tasks.pretraining.causal_lm import CausalLM
from trainers.tasks.pretraining.replaced_tokens import ReplacedTokens
from trainers.tasks.pretraining.span_corruption import SpanCorruption
from trainers.tasks.task import Guess


def test_a_language_model_guesses_among_all_tokens(corpus: Any, tokenizer: Any) -> None:
    validation = InMemory([[5]])
    guess = CausalLM(corpus, start("llama"), 17, 1).guess(validation)
    assert guess[:3] == ("loss", math.log(len(tokenizer)), "min")
    assert guess.name == f"the logarithm of {len(tokenizer):,} tokens"
    with_sentinels = SpanCorruption(corpus, start("t5"), 17, 1).guess(validation)
    assert with_sentinels.value == math.log(len(tokenizer) + 100)


def test_electra_guesses_twice(corpus: Any, tokenizer: Any) -> None:
    task = ReplacedTokens(corpus, start("electra"), 17, 1, discriminator_weight=20.0)
    guess = task.guess(InMemory([[5]]))
    assert guess.value == math.log(len(tokenizer)) + 20 * math.log(2)


def classifier(folder: Path, **keys: Any) -> ClassifyTask:
    counts = {"bad": {"validation": 2}, "good": {"validation": 5}}
    examples = published(
        Storage.at(str(folder)), "examples/demo-examples-00", metrics={"labels": counts}
    )
    settings = Classify(labels=["bad", "fair", "good"], **keys)
    task = ClassifyTask(settings, examples, start("bert"), "")
    task.__dict__["labels"] = settings.labels
    return task


def test_a_classifier_guesses_the_most_frequent_label(tmp_path: Path) -> None:
    guess = classifier(tmp_path).guess(InMemory([[5]] * 8))
    assert guess[:3] == ("accuracy", 5 / 8, "max")
    assert guess.name == "the share of the most frequent label, 'good'"


def test_a_classifier_of_several_labels_guesses_all(tmp_path: Path) -> None:
    """Seven gold of 24 that are given: F1 is 14 / 31."""
    guess = classifier(tmp_path, multi_label=True).guess(InMemory([[5]] * 8))
    assert guess[:3] == ("micro_f1", pytest.approx(14 / 31), "max")


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
