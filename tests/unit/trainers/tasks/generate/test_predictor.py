"""Texts are written from texts as in training, by both kinds of model."""

from typing import Any

import pytest

from tests.fakes import recorded_here
from tests.objectives import start
from tests.writers import save_writer
from trainers.tasks.generate.spec import Generate
from trainers.tasks.generate.task import DecoderTask, EncoderDecoderTask
from trainers.tasks.predictor import load
from trainers.tasks.task import IGNORED
from trainers.tasks.writing.figures import figures

ROWS = [
    {"prompt": "很好，非常满意", "completion": "好", "text": "a"},
    {"prompt": "差", "completion": "差差", "text": "b"},
    {"prompt": "a b c d e f g h i j k l m n o p q r s t u v", "completion": "a", "text": "c"},
]
KEYS = {"instruction": "In: {prompt}\n", "prompt_format": "plain", "max_source_length": 16}


@pytest.mark.parametrize(
    ("architecture", "kind", "format"),
    [
        ("llama", DecoderTask, "plain"),
        ("llama", DecoderTask, "chat"),
        ("t5", EncoderDecoderTask, "plain"),
    ],
)
def test_prompts_and_truths_are_those_of_training(
    architecture: str, kind: Any, format: Any, chat_tokenizer: Any, tmp_path: Any
) -> None:
    keys = {**KEYS, "prompt_format": format}
    predictor = load(save_writer(tmp_path, chat_tokenizer, "generate", architecture, **keys))
    settings = Generate(task="generate", base="x", max_length=48, **keys)
    task = kind(settings, None, start(architecture), str(tmp_path))
    rows = ROWS[:2] if format == "chat" else ROWS  # which cuts no prompt
    for row in rows:
        (sequence,) = task.render(row).sequences
        learned = predictor.truth(row).learned
        (asked,) = predictor.encode([row["prompt"]])
        assert [*learned["input_ids"]] == [*sequence["input_ids"]]
        if architecture == "t5":
            assert [*learned["labels"]] == [*sequence["labels"]]
            assert [*asked.input_ids] == [*sequence["input_ids"]]
            continue
        is_target = [one != IGNORED for one in learned["labels"]]
        assert is_target == [*sequence["learned"]]
        assert [*learned["input_ids"]][: len(asked.input_ids)] == [*asked.input_ids]
        assert is_target.index(True) == len(asked.input_ids)
    records = recorded_here(predictor, rows)
    assert [one["gold"] for one in records] == [row["completion"] for row in rows]
    assert figures(records)["loss"] > 0
    outputs = predictor.predict([row["prompt"] for row in rows])
    assert outputs == [predictor.predict([row["prompt"]])[0] for row in rows]
