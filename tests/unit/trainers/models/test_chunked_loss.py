"""A loss in chunks is the plain one, and so are its gradients."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from trainers.models import chunked_loss
from trainers.models.chunked_loss import LossHead

WIDTH, VOCABULARY, TOKENS = 8, 50, 23
IGNORED = -100


@pytest.fixture(autouse=True)
def several_groups_of_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunked_loss, "CHUNK_LOGITS", 4 * VOCABULARY)
    monkeypatch.setattr(chunked_loss, "GROUP_LOGITS", 10 * VOCABULARY)
    monkeypatch.setitem(chunked_loss.CHUNK_TOKENS, "cpu", 3)


def made(bias: bool = False, learned: float = 0.7) -> tuple[LossHead, Tensor, Tensor]:
    """An output layer, hidden states of two sequences, and labels."""
    torch.manual_seed(3)
    head = LossHead(WIDTH, VOCABULARY, bias=bias)
    hidden = torch.randn(2, TOKENS, WIDTH, requires_grad=True)
    labels = torch.randint(VOCABULARY, (2, TOKENS))
    labels[torch.rand(2, TOKENS) >= learned] = IGNORED
    return head, hidden, labels


def plain(head: LossHead, hidden: Tensor, labels: Tensor) -> Tensor:
    logits = head(hidden).float().flatten(0, 1)
    return functional.cross_entropy(logits, labels.flatten(), ignore_index=IGNORED, reduction="sum")


def gradients(loss: Tensor, head: nn.Module, hidden: Tensor) -> list[Tensor]:
    inputs = [one for one in (hidden, *head.parameters()) if one.requires_grad]
    return [*torch.autograd.grad(loss * 0.25, inputs)]


@pytest.mark.parametrize("learned", [1.0, 0.7, 0.0])
@pytest.mark.parametrize("bias", [False, True])
def test_loss_and_gradients_are_the_plain_ones(bias: bool, learned: float) -> None:
    head, hidden, labels = made(bias, learned)
    loss, _ = head(hidden, labels)
    expected = plain(head, hidden, labels)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    for found, other in zip(
        gradients(loss, head, hidden), gradients(expected, head, hidden), strict=True
    ):
        torch.testing.assert_close(found, other, rtol=1e-5, atol=1e-6)


def test_correct_predictions_are_counted_where_asked() -> None:
    head, hidden, labels = made()
    with torch.no_grad():
        right = head(hidden).argmax(-1)
        labels[0, :5], labels[1] = right[0, :5], IGNORED
        labels[0, 5:] = (right[0, 5:] + 1) % VOCABULARY
        loss, correct = head(hidden, labels, counted=True)
        assert int(correct) == 5
        torch.testing.assert_close(loss, plain(head, hidden, labels))


def test_a_frozen_layer_has_no_gradient_made() -> None:
    head, hidden, labels = made(bias=True)
    head.requires_grad_(False)
    loss, _ = head(hidden, labels)
    assert loss.grad_fn.gradients[1:] == [None, None]
    (found,) = gradients(loss, head, hidden)
    (expected,) = gradients(plain(head, hidden, labels), head, hidden)
    torch.testing.assert_close(found, expected)


class Largest(TorchDispatchMode):
    """How many numbers the largest tensor has that an operation makes."""

    numbers = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        made = function(*args, **(kwargs or {}))
        sizes = [one.numel() for one in tree_leaves(made) if isinstance(one, Tensor)]
        self.numbers = max(self.numbers, *sizes, 0)
        return made


def test_logits_are_never_whole() -> None:
    head, hidden, labels = made()
    with Largest() as largest:
        head(hidden, labels)[0].backward()
    assert largest.numbers < labels.numel() * VOCABULARY / 4


@pytest.mark.parametrize("is_cast", [False, True], ids=["weights", "autocast"])
def test_bf16_is_as_near_to_fp32_as_the_plain_loss(is_cast: bool) -> None:
    head, hidden, labels = made(bias=True)
    exact = gradients(plain(head, hidden, labels), head, hidden)
    if not is_cast:
        head, hidden = head.to(torch.bfloat16), hidden.detach().bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=is_cast):
        loss, _ = head(hidden, labels)
        expected = plain(head, hidden, labels)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected, rtol=1e-3, atol=0.0)
    for found, other, truth in zip(
        gradients(loss, head, hidden), gradients(expected, head, hidden), exact, strict=True
    ):
        assert found.dtype == other.dtype
        error, usual = ((one.float() - truth).norm() for one in (found, other))
        assert error <= 1.5 * usual  # each group of chunks is rounded, of ten tokens here


def test_gradients_of_one_loss_can_be_had_once() -> None:
    head, hidden, labels = made()
    loss, _ = head(hidden, labels)
    loss.backward(retain_graph=True)
    with pytest.raises(AssertionError, match="can be had once"):
        loss.backward()
