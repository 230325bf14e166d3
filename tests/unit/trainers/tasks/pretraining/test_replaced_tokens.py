"""What ELECTRA's generator and discriminator learn, and what is kept of them."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoModelForSequenceClassification

from cluster.errors import UserError
from tests.objectives import sequences, start
from trainers.models.build import Start, build, packed_inputs, parameter_count, parts
from trainers.tasks.pretraining.masked_lm import MaskedLM
from trainers.tasks.pretraining.replaced_tokens import GENERATOR, ReplacedTokens, drawn
from trainers.tasks.task import IGNORED


@pytest.fixture
def task(corpus: Any) -> ReplacedTokens:
    return ReplacedTokens(corpus, start("electra"), seed=17, cache_gb=1, generator_size=0.5)


@pytest.fixture
def model(task: ReplacedTokens) -> Any:
    torch.manual_seed(0)
    return task.model().eval()


@torch.no_grad()
def test_the_loss_is_that_of_the_paper(task: ReplacedTokens, model: Any, tokenizer: Any) -> None:
    """Place by place, with the inverse of the cumulated chances written out."""
    given = sequences(2, tokenizer)
    batch = task.collate(given, [3, 4])
    originals = torch.tensor([row["input_ids"] for row in given])
    inputs = packed_inputs(model.generator, batch["input_ids"], batch["segments"])
    chances = model.generator(**inputs).logits.softmax(-1)
    written, generator_loss = originals.clone(), 0.0
    for row, place in batch["masked"].nonzero().tolist():
        at = chances[row, place]
        generator_loss -= float(at[originals[row, place]].log())
        token, total = 0, float(at[0])
        while total <= float(batch["uniform"][row, place]):
            token += 1
            total += float(at[token])
        written[row, place] = token
    said = model.discriminator(**{**inputs, "input_ids": written}).logits.sigmoid()
    learned = (originals >= 5).nonzero().tolist()
    discriminator_loss, correct = 0.0, 0
    for row, place in learned:
        is_replaced = bool(written[row, place] != originals[row, place])
        chance = said[row, place] if is_replaced else 1 - said[row, place]
        discriminator_loss -= float(chance.log())
        correct += bool(chance > 0.5)
    loss, sums = task.loss(model, batch)
    expected = generator_loss / 0.15 + 50 * discriminator_loss
    assert float(loss) == pytest.approx(expected, rel=1e-4)
    assert int(sums["correct"]) == correct
    assert task.targets(batch) == len(learned)
    assert int((written != originals).sum()) > 30, "something was replaced"


def test_every_chosen_token_is_masked_and_all_others_are_learned_too(
    task: ReplacedTokens, tokenizer: Any
) -> None:
    given = sequences(100, tokenizer)
    ids = torch.tensor([row["input_ids"] for row in given])
    batch = task.collate(given, range(100))
    masked, learned = batch["masked"], batch["labels"] != IGNORED
    assert torch.equal(learned, ids >= 5), "neither special tokens nor padding"
    assert torch.equal(batch["labels"][learned], ids[learned])
    assert (batch["input_ids"][masked] == tokenizer.mask_token_id).all()
    assert torch.equal(batch["input_ids"][~masked], ids[~masked])
    assert masked.sum() / learned.sum() == pytest.approx(0.15, abs=0.01)


def test_what_is_drawn_follows_from_the_samples_number_alone(
    task: ReplacedTokens, tokenizer: Any
) -> None:
    given = sequences(4, tokenizer)
    together = pickle.loads(pickle.dumps(task)).collate(given, [10, 11, 12, 13])
    for place in range(4):
        alone = task.collate(given[place : place + 1], [10 + place])
        for name, value in alone.items():
            assert torch.equal(value[0], together[name][place])
    again = task.collate([given[0]] * 2, [10, 999])
    for name in ("masked", "uniform"):
        assert not torch.equal(again[name][0], again[name][1]), "in another epoch"


def test_tokens_are_drawn_by_their_chances() -> None:
    chances = torch.tensor([0.5, 0.0, 0.2, 0.3])
    uniform = torch.linspace(0, 1, 1001)[:-1]
    tokens = drawn(chances.log().expand(1000, 4), uniform)
    assert (torch.bincount(tokens, minlength=4) / 1000).tolist() == pytest.approx(
        chances.tolist(), abs=0.002
    )
    assert drawn(chances.log()[None], torch.ones(1)).tolist() == [3], "rounding up to 1"


def test_both_learn_and_share_their_embeddings(
    task: ReplacedTokens, model: Any, tokenizer: Any
) -> None:
    loss, _ = task.loss(model.train(), task.collate(sequences(1, tokenizer), [0]))
    loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    shared = sum(p.numel() for p in model.discriminator.electra.embeddings.parameters())
    alone = parameter_count(model.discriminator) + parameter_count(model.generator)
    assert parameter_count(model) == alone - shared
    assert model.generator.config.hidden_size == model.discriminator.config.hidden_size // 2


def test_no_gradient_goes_through_the_drawing(
    task: ReplacedTokens, model: Any, tokenizer: Any
) -> None:
    """What is the generator's alone has the gradient of its own loss, and no other."""
    batch = task.collate(sequences(1, tokenizer), [0])
    loss, _ = task.loss(model, batch)
    (own,) = torch.autograd.grad(loss, model.generator.electra.embeddings_project.weight)
    masked_lm = MaskedLM(task.corpus, task.start, seed=17, cache_gb=1)
    labels = torch.where(batch["masked"], batch["labels"], IGNORED)
    only, _ = masked_lm.loss(model.generator, {**batch, "labels": labels})
    (of_it,) = torch.autograd.grad(only, model.generator.electra.embeddings_project.weight)
    torch.testing.assert_close(own, of_it / 0.15, rtol=1e-3, atol=1e-4)


def test_the_discriminator_is_kept_and_training_goes_on_from_both(
    task: ReplacedTokens, model: Any, tokenizer: Any, corpus: Any, tmp_path: Path
) -> None:
    for place, part in parts(model).items():
        part.save_pretrained(tmp_path / place)
    tokenizer.save_pretrained(tmp_path)
    classifier = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert classifier.config.model_type == "electra"
    body = dict(model.discriminator.electra.named_parameters())
    for name, weight in classifier.electra.named_parameters():
        assert torch.equal(weight, body[name])
    folder = str(tmp_path / GENERATOR)
    assert AutoModelForMaskedLM.from_pretrained(folder).config.model_type == "electra"
    goes_on = ReplacedTokens(corpus, Start(base=str(tmp_path)), seed=17, cache_gb=1)
    again = goes_on.model().eval()
    batch = task.collate(sequences(1, tokenizer), [0])
    with torch.no_grad():
        assert torch.equal(goes_on.loss(again, batch)[0], task.loss(model, batch)[0])


def test_other_bases_are_refused(corpus: Any, tokenizer: Any, tmp_path: Path) -> None:
    build(start("bert"), "AutoModelForMaskedLM", tokenizer).save_pretrained(tmp_path / "bert")
    tokenizer.save_pretrained(tmp_path / "bert")
    bert = str(tmp_path / "bert")
    for key in ("base", "like"):
        task = ReplacedTokens(corpus, Start(**{key: bert}), seed=1, cache_gb=1)
        with pytest.raises(UserError, match=rf"pretrain\.{key}: replaced_tokens needs an electra"):
            task.model()
