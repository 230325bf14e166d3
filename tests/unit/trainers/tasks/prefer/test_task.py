"""The loss of pairs: of each by itself, however they are put together, and against a reference that
is the model before training."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from cluster.store.storage import Storage
from tests.chats import TEMPLATE
from tests.fakes import published
from tests.objectives import start, validated
from trainers.corpora.tokens.pack import write_arrow
from trainers.models.build import Start
from trainers.models.shape import Shape
from trainers.tasks.conversations.messages import message
from trainers.tasks.prefer.log_probabilities import (
    disable_dropout,
    reference_log_probabilities,
    sequence_log_probabilities,
)
from trainers.tasks.prefer.losses import Loss
from trainers.tasks.prefer.pairs import pair_batch, sides
from trainers.tasks.prefer.spec import Prefer
from trainers.tasks.prefer.task import PreferTask
from trainers.tasks.spec import REFERENCE

LOSSES: dict[Loss, dict[str, Any]] = {
    "sigmoid": {},
    "ipo": {},
    "robust": {"label_smoothing": 0.1},
    "simpo": {},
    "orpo": {},
}
LENGTHS = [(9, 14), (21, 6), (5, 5), (12, 17), (8, 3)]
Row = dict[str, Any]


def rows() -> list[Row]:
    """Pairs with a common prompt of two tokens."""
    drawn = np.random.default_rng(3)
    made = []
    for sizes in LENGTHS:
        prompt = drawn.integers(5, 300, 2)
        ids = [np.concatenate([prompt, drawn.integers(5, 300, size - 2)]) for size in sizes]
        learned = [np.arange(size) >= 2 for size in sizes]
        made.append(
            {
                "input_ids": np.concatenate(ids),
                "learned": np.concatenate(learned),
                "lengths": np.array(sizes),
                REFERENCE: drawn.normal(-20, 1, 2).astype(np.float32),
            }
        )
    return made


def task(tokenizer: Any, loss: Loss = "sigmoid", **keys: Any) -> PreferTask:
    settings = Prefer.model_validate({"loss": loss, **LOSSES[loss], "max_length": 32, **keys})
    made = PreferTask(settings, None, start("llama"), "")
    object.__setattr__(made, "tokenizer", lambda: tokenizer)
    return made


@pytest.fixture(scope="module")
def model(tokenizer: Any) -> Any:
    torch.manual_seed(0)
    return task(tokenizer).model().eval()


def by_hand(model: Any, sequence: Row) -> float:
    ids = torch.from_numpy(sequence["input_ids"])[None]
    with torch.no_grad():
        every = model(ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
    return float(every[torch.from_numpy(sequence["learned"])[1:]].sum())


@pytest.mark.parametrize("is_packed", [True, False])
@pytest.mark.parametrize("is_chunked", [True, False])
def test_log_probabilities_are_of_whole_answers(
    model: Any, is_packed: bool, is_chunked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not is_chunked:
        monkeypatch.setattr("trainers.tasks.prefer.log_probabilities.loss_head", lambda model: None)
    chosen, rejected = zip(*map(sides, rows()), strict=True)
    expected = [by_hand(model, one) for one in (*chosen, *rejected)]
    found = sequence_log_probabilities(model, pair_batch(rows(), is_packed, 0))
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-5, atol=1e-5)


def gradients(of: PreferTask, model: Any, batches: Sequence[Sequence[Row]]) -> Tensor:
    """Of the loss of all pairs, as a training adds them up."""
    model.zero_grad()
    model.train()
    for some in batches:
        loss, _ = of.loss(model, of.collate(some, range(len(some))))
        loss.backward()
    model.eval()
    return torch.cat([one.grad.flatten() for one in model.parameters()])


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize("size", [1, 2])
def test_gradients_are_the_same_however_pairs_are_put_together(
    tokenizer: Any, model: Any, loss: Loss, packing: bool, size: int
) -> None:
    """trl#6403, and the loss of a pair is its own."""
    every = rows()
    whole = gradients(task(tokenizer, loss, packing=False), model, [every])
    cut = [every[first : first + size] for first in range(0, len(every), size)]
    other = gradients(task(tokenizer, loss, packing=packing), model, cut)
    assert (other - whole).abs().max() <= 1e-5 * whole.abs().max()


@given(workers=st.integers(1, 3), size=st.integers(1, 4), packing=st.booleans())
def test_an_evaluation_is_the_same_at_any_number_of_workers(
    tokenizer: Any, model: Any, workers: int, size: int, packing: bool
) -> None:
    every = rows()
    whole = validated(task(tokenizer, packing=False), model, [every])
    shares = [every[rank::workers] for rank in range(workers)]
    batches = [own[first : first + size] for own in shares for first in range(0, len(own), size)]
    other = validated(task(tokenizer, packing=packing), model, batches)
    assert other == pytest.approx(whole, rel=1e-5)
    assert {*whole} == {*Prefer().validation_metrics}


def test_against_itself_a_model_has_no_margin(tokenizer: Any, model: Any) -> None:
    every, of = rows(), task(tokenizer)
    for row in every:
        row[REFERENCE] = np.array([by_hand(model, side) for side in sides(row)], np.float32)
    found = validated(of, model, [every])
    assert found["margin"] == pytest.approx(0, abs=1e-5)
    assert found["kl"] == pytest.approx(0, abs=1e-9)
    assert found["loss"] == pytest.approx(np.log(2), rel=1e-5)


@pytest.mark.parametrize(
    "method",
    [
        {"name": "lora", "rank": 4, "dropout": 0.1},
        {"name": "lora", "dora": True},
        {"name": "adalora"},
        {"name": "ia3"},
        {"name": "adapter"},
    ],
    ids=str,
)
def test_without_its_adapter_a_model_is_its_reference_exactly(
    tokenizer: Any, method: dict[str, Any]
) -> None:
    """unsloth-zoo#832, #830: a reference with dropout, or with the head that is trained."""
    from trainers.methods.adapt import adapt

    torch.manual_seed(0)
    of = task(tokenizer, method=method)
    shape = {"architecture": "llama", "hidden_size": 32, "layers": 1, "heads": 2, "dropout": 0.1}
    object.__setattr__(of, "start", Start(shape=Shape.model_validate(shape)))
    model = of.model()
    assert model.config.attention_dropout == 0.1  # as it is saved
    model.absent_in_base = ["lm_head.weight"]  # which is trained then
    adapted = adapt(model, of.settings.adapter)
    batch = of.collate(rows(), range(len(rows())))
    assert REFERENCE not in batch
    before = sequence_log_probabilities(model.train(), batch)
    reference = reference_log_probabilities(model, batch)
    assert torch.equal(before, reference)
    assert model.training
    with torch.no_grad():
        for parameter in adapted.trained.values():
            parameter.add_(torch.randn_like(parameter))
    assert any("lm_head" in name for name in adapted.trained)
    assert torch.equal(reference_log_probabilities(model, batch), reference)
    assert (sequence_log_probabilities(model, batch) - reference).abs().min() > 1e-3


def test_dropout_is_off_wherever_a_model_has_it() -> None:
    class Layer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention_dropout, self.scale = 0.1, 0.5
            self.dropout = torch.nn.Dropout(0.1)

    layer = Layer()
    disable_dropout(layer)
    assert (layer.attention_dropout, layer.dropout.p, layer.scale) == (0.0, 0.0, 0.5)


def test_rows_have_what_the_base_said_of_them(tokenizer: Any, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "chat.jinja").write_text(TEMPLATE, "utf-8")
    storage = Storage.at(str(tmp_path))
    made = published(storage, "rows/demo-render-00")
    scored = published(storage, "reference/demo-reference-00")
    settings = Prefer(template=str(tmp_path / "chat.jinja"))
    of = PreferTask(settings, made, start("llama"), str(tmp_path), scored)
    asked = message("user", "Which?", train=False)
    row = {
        "chosen": [asked, message("assistant", "This one.")],
        "rejected": [asked, message("assistant", "That.")],
        "tools": "",
    }
    (columns,) = of.render(row).sequences
    table = {name: pa.array([columns[name]], kind) for name, kind in of.columns.items()}
    write_arrow(pa.table(table), made.path / "train.arrow")
    values = pa.array([[-3.5, -1.5]], pa.list_(pa.float32()))
    write_arrow(pa.table({REFERENCE: values}), scored.path / "train.arrow")
    (taken,) = of.rows("train").take(np.array([0]))
    assert of.length(taken) == sum(columns["lengths"])
    batch = of.collate([taken], [0])
    assert batch[REFERENCE].tolist() == [-3.5, -1.5]
    learned = sum(columns["learned"])
    assert (of.targets(batch), int(batch["tokens"].sum())) == (1, learned)


def test_the_longest_rows_are_two_sequences(tokenizer: Any) -> None:
    of = task(tokenizer, packing=False)
    batch = of.collate(of.longest_rows(3), range(3))
    assert batch["input_ids"].shape == (6, 32)
    assert batch["tokens"].tolist() == [31] * 6
