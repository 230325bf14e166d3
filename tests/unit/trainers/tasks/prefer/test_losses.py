"""The judge of the losses is TRL's own code, called with log-probabilities that are given."""

import types
from collections import defaultdict
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from trainers.tasks.prefer.losses import (
    Loss,
    Pairs,
    kl_per_token,
    log_odds,
    log_ratios,
    pair_losses,
    scores,
)

PAIRS, PROMPT, LENGTH = 3, 2, 7


class Accelerator:
    device = torch.device("cpu")

    def gather(self, value: Any) -> Any:
        return value

    gather_for_metrics = gather


def of_tokens(seed: int) -> Tensor:
    """(2 pairs, tokens but the first): log-probabilities, the chosen answers' first."""
    generator = torch.Generator().manual_seed(seed)
    return -torch.rand(2 * PAIRS, LENGTH - 1, generator=generator, dtype=torch.float64) - 0.01


@pytest.fixture
def completion_mask() -> Tensor:
    """Answers of unequal length behind a prompt."""
    mask = torch.zeros(2 * PAIRS, LENGTH, dtype=torch.long)
    for row, tokens in enumerate((5, 1, 3, 2, 4, 5)):
        mask[row, PROMPT : PROMPT + tokens] = 1
    return mask


def pairs(of_rows: Tensor) -> Pairs:
    return Pairs(*of_rows.chunk(2))


def by_trl(name: str, policy: Tensor, reference: Tensor, mask: Tensor, **keys: float) -> Tensor:
    """DPOTrainer's mean loss of answers whose tokens have these log-probabilities."""
    from trl import DPOTrainer

    learned = mask[:, 1:]
    outputs = types.SimpleNamespace(
        log_probs=policy * learned,
        entropy=torch.zeros_like(policy),
        mean_logits=torch.zeros_like(policy),
        is_top1=torch.zeros_like(learned, dtype=torch.bool),
    )
    ref_chosen, ref_rejected = pairs((reference * learned).sum(1))
    trainer = types.SimpleNamespace(
        model=types.SimpleNamespace(training=True),
        accelerator=Accelerator(),
        aux_loss_enabled=False,
        ld_alpha=None,
        precompute_ref_logps=True,
        f_divergence_type="reverse_kl",
        loss_types=[name],
        loss_weights=[1.0],
        use_weighting=False,
        _metrics={"train": defaultdict(list)},
        _total_train_tokens=0,
        _tp_size=1,
        **keys,
    )
    inputs = {
        "input_ids": torch.ones_like(mask),
        "attention_mask": torch.ones_like(mask),
        "completion_mask": mask,
        "ref_chosen_logps": ref_chosen,
        "ref_rejected_logps": ref_rejected,
    }
    return DPOTrainer._compute_loss(trainer, lambda **_: outputs, inputs, return_outputs=False)


@pytest.mark.parametrize("name", ["sigmoid", "ipo", "robust"])
def test_losses_with_a_reference_are_those_of_trl(name: Loss, completion_mask: Tensor) -> None:
    policy, reference = of_tokens(1).requires_grad_(), of_tokens(2)
    learned = completion_mask[:, 1:]
    ours = pair_losses(
        name,
        scores(
            name,
            pairs((policy * learned).sum(1)),
            pairs((reference * learned).sum(1)),
            pairs(learned.sum(1)),
        ),
        beta=0.3,
        gamma=0.0,
        label_smoothing=0.2,
    )
    theirs = by_trl(name, policy, reference, completion_mask, beta=0.3, label_smoothing=0.2)
    assert ours.mean().item() == pytest.approx(theirs.item(), rel=1e-9)
    gradients = [torch.autograd.grad(loss, policy)[0] for loss in (ours.mean(), theirs)]
    torch.testing.assert_close(*gradients)


def test_simpo_is_that_of_trl(completion_mask: Tensor) -> None:
    from trl.experimental.cpo import CPOTrainer

    learned = completion_mask[:, 1:]
    sums, tokens = pairs((of_tokens(1) * learned).sum(1)), pairs(learned.sum(1))
    score = scores("simpo", sums, None, tokens)
    trainer = types.SimpleNamespace(
        alpha=0.0,
        beta=2.0,
        loss_type="simpo",
        simpo_gamma=0.7,
        label_smoothing=0.0,
        accelerator=Accelerator(),
    )
    theirs, *_ = CPOTrainer.cpo_loss(trainer, *score)
    ours = pair_losses("simpo", score, beta=2.0, gamma=0.7, label_smoothing=0.0)
    torch.testing.assert_close(ours, theirs)


def test_orpo_is_that_of_trl() -> None:
    """Of one pair whose prompt is one token: TRL's supervised part is of all tokens of a batch, and
    of the prompt's too."""
    from trl.experimental.orpo import ORPOTrainer

    torch.manual_seed(3)
    logits = torch.randn(2, LENGTH, 11, requires_grad=True)
    ids = torch.randint(11, (2, LENGTH))
    labels = ids.clone()
    labels[:, 0] = -100
    batch = {"chosen_labels": labels[:1]}
    trainer = types.SimpleNamespace(
        beta=0.4,
        accelerator=Accelerator(),
        aux_loss_enabled=False,
        is_encoder_decoder=False,
        padding_value=0,
        concatenated_inputs=lambda *_, **__: {
            "concatenated_input_ids": ids,
            "concatenated_attention_mask": torch.ones_like(ids),
            "concatenated_labels": labels,
        },
        get_batch_logps=ORPOTrainer.get_batch_logps,
    )
    for method in ("concatenated_forward", "odds_ratio_loss"):
        setattr(trainer, method, types.MethodType(getattr(ORPOTrainer, method), trainer))
    model = lambda *_, **__: types.SimpleNamespace(logits=logits)  # noqa: E731
    theirs, _ = ORPOTrainer.get_batch_loss_metrics(trainer, model, batch)

    each = logits[:, :-1].log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0]
    tokens = torch.full((2,), LENGTH - 1)
    score = scores("orpo", pairs(each.sum(1)), None, pairs(tokens))
    ours = pair_losses("orpo", score, beta=0.4, gamma=0.0, label_smoothing=0.0)
    torch.testing.assert_close(ours.mean(), theirs)
    gradients = [torch.autograd.grad(loss, logits, retain_graph=True)[0] for loss in (ours, theirs)]
    torch.testing.assert_close(*gradients)


@given(st.floats(min_value=1e-12, max_value=50))
def test_log_odds_are_finite_and_have_a_finite_gradient(surprise: float) -> None:
    value = torch.tensor(-surprise, dtype=torch.float64, requires_grad=True)
    odds = log_odds(value)
    (gradient,) = torch.autograd.grad(odds, value)
    assert torch.isfinite(odds)
    assert torch.isfinite(gradient)
    assert odds.item() == pytest.approx(-surprise - torch.log(-torch.expm1(value)).item())


@pytest.mark.parametrize("name", ["sigmoid", "ipo", "robust", "simpo", "orpo"])
def test_the_loss_of_a_pair_does_not_depend_on_other_pairs(name: Loss) -> None:
    policy, reference = pairs(of_tokens(1).sum(1)), pairs(of_tokens(2).sum(1))
    tokens = pairs(torch.full((2 * PAIRS,), LENGTH - 1))
    keys = {"beta": 0.5, "gamma": 0.3, "label_smoothing": 0.1}
    together = pair_losses(name, scores(name, policy, reference, tokens), **keys)
    for number in range(PAIRS):
        one = [Pairs(p.chosen[[number]], p.rejected[[number]]) for p in (policy, reference, tokens)]
        alone = pair_losses(name, scores(name, *one), **keys)
        assert alone.item() == together[number].item()


def test_a_model_that_is_its_reference_has_no_difference_and_no_divergence() -> None:
    policy = pairs(of_tokens(1).sum(1))
    tokens = pairs(torch.full((2 * PAIRS,), LENGTH - 1))
    assert not scores("sigmoid", policy, policy, tokens).difference.any()
    assert not kl_per_token(log_ratios(policy, policy), tokens).any()
