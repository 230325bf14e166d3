"""Text to text: what is read, and what is written of it and learned."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from cluster.errors import UserError
from tests.objectives import start
from trainers.models.build import Start
from trainers.tasks.conversations.template import NotRendered
from trainers.tasks.generate.spec import Generate
from trainers.tasks.generate.task import DecoderTask, EncoderDecoderTask, generate_task
from trainers.tasks.task import IGNORED

ROW = {"prompt": "今天天气很好", "completion": "Hello world"}


@pytest.fixture
def folder(tokenizer: Any, tmp_path: Path) -> str:
    tokenizer.save_pretrained(tmp_path)
    return str(tmp_path)


def task(folder: str, architecture: str, **keys: Any) -> Any:
    return generate_task(Generate.model_validate(keys), None, start(architecture), folder)


def test_the_model_decides_what_kind_it_is(folder: str, tmp_path: Path) -> None:
    from transformers import T5Config

    assert isinstance(task(folder, "llama"), DecoderTask)
    assert isinstance(task(folder, "t5"), EncoderDecoderTask)
    T5Config().save_pretrained(tmp_path / "like")
    of = generate_task(Generate(), None, Start(base=str(tmp_path / "like")), folder)
    assert isinstance(of, EncoderDecoderTask)


@pytest.mark.parametrize("keys", [{"overlong": "split"}, {"prompt_format": "chat"}])
def test_what_does_not_go_with_an_encoder_decoder_is_refused(
    folder: str, keys: dict[str, str]
) -> None:
    (key,) = keys
    with pytest.raises(UserError, match=rf"finetune\.{key}: the model is an encoder-decoder"):
        task(folder, "t5", **keys)


def test_a_decoder_learns_the_completion_and_its_end(folder: str, tokenizer: Any) -> None:
    (made,) = task(folder, "llama").render(ROW).sequences
    learned = np.array(made["input_ids"])[made["learned"]]
    assert tokenizer.decode(learned) == "Hello world[SEP]"
    assert tokenizer.decode(made["input_ids"]) == "[CLS]今天天气很好\nHello world[SEP]"


def test_an_encoder_reads_the_prompt_and_the_decoder_writes(folder: str, tokenizer: Any) -> None:
    (made,) = task(folder, "t5", instruction="{prompt}").render(ROW).sequences
    assert tokenizer.decode(made["input_ids"]) == "[CLS]今天天气很好[SEP]"
    assert tokenizer.decode(made["labels"]) == "Hello world[SEP]"


@pytest.mark.parametrize("architecture", ["llama", "t5"])
def test_what_is_cut_is_counted_and_what_is_too_long_dropped(
    folder: str, architecture: str
) -> None:
    long = {"prompt": "很好" * 100, "completion": "Hello"}
    made = task(folder, architecture, max_source_length=16).render(long)
    assert made.noted == {"prompts cut to max_source_length": 1}
    with pytest.raises(NotRendered, match="longer than max_length"):
        task(folder, architecture, max_length=64).render(
            {"prompt": "a", "completion": "很好" * 100}
        )


def test_the_decoder_is_shown_what_was_written_before(folder: str) -> None:
    """As Transformers itself shifts labels, and its loss of them."""
    of = task(folder, "t5")
    torch.manual_seed(0)
    model = of.model().eval()
    rows = [
        {name: np.array(value) for name, value in of.render(row).sequences[0].items()}
        for row in (ROW, {"prompt": "a longer one", "completion": "x"})
    ]
    batch = of.collate(rows, range(2))
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "labels")}
    with torch.no_grad():
        loss, counts = of.loss(model, batch)
        expected = model(**inputs)
    assert float(loss) / of.targets(batch) == pytest.approx(float(expected.loss), rel=1e-5)
    learned = batch["labels"] != IGNORED
    right = (expected.logits.argmax(-1) == batch["labels"])[learned].sum()
    assert counts["correct"] == right
    by_row = functional.cross_entropy(
        expected.logits.transpose(1, 2), batch["labels"], ignore_index=IGNORED, reduction="sum"
    )
    assert float(loss) == pytest.approx(float(by_row), rel=1e-5)
