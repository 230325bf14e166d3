"""The loss of a causal model whose logits are never whole in memory.

For T tokens and a vocabulary of V the logits are T x V numbers, of which autograd keeps several
copies: gigabytes where V is 150,000. Here the output layer takes a chunk of tokens at a time,

    z_t = W h_t + b,    L = sum_t (log sum_v exp(z_tv) - z_t,y_t)

and since dL/dz_t = softmax(z_t) - onehot(y_t) is known as soon as z_t is, each chunk leaves its
part of the gradients dL/dh_t = W' dL/dz_t and dL/dW = sum_t dL/dz_t h_t'. So no product is computed
twice, and the backward pass only scales them, as in Liger Kernel (Hsu et al. 2024).
"""

import importlib.util
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MODEL_TYPES = (
    "gpt2", "gpt_neox", "opt", "phi", "phi3", "stablelm", "starcoder2",
    "llama", "mistral", "ministral", "qwen2", "qwen3", "smollm3", "gemma", "olmo", "olmo2",
)  # fmt: skip
"""Types of Transformers models whose logits are their output layer's, of the last hidden state of
their base model. Others scale or cap them (Cohere, Granite, Gemma from the second on)."""
CHUNK_LOGITS, GROUP_LOGITS = 1 << 21, 1 << 26
"""How many logits a chunk has, few enough for a processor's cache; and how many the chunks have
that leave their part of dL/dW together, since all of dL/dW is read and written then."""
CHUNK_TOKENS = {"cpu": 256, "cuda": 2048}
"""How many tokens a chunk has at least, by type of device."""


def chunk_tokens(device: torch.device, vocabulary: int) -> int:
    """Tokens whose logits are computed together."""
    least = CHUNK_TOKENS.get(device.type, CHUNK_TOKENS["cuda"])
    return max(least, CHUNK_LOGITS // vocabulary)


class LossHead(nn.Linear):
    """An output layer that returns the loss of labels where it is given some, and else logits.

    It is called as a module, so that under ZeRO-3 its weight is whole while it computes.
    """

    def forward(self, input: Tensor, labels: Tensor | None = None, counted: bool = False) -> Any:
        """The logits of hidden states (..., width). With labels (...), their cross-entropy summed
        over those that are not below 0, and how many of these are the most likely token: None
        unless they are `counted`."""
        if labels is None:
            return super().forward(input)
        return _loss(input, self.weight, self.bias, labels, counted)


def prepare(model: "PreTrainedModel") -> None:
    """Has the output layer of a model give losses too, where its output is the logits."""
    head = model.get_output_embeddings()
    if model.config.model_type in MODEL_TYPES and type(head) is nn.Linear:
        head.__class__ = LossHead


def loss_head(model: "PreTrainedModel") -> LossHead | None:
    """The output layer that gives losses of the base model's hidden states; None for a model that
    was not prepared, or where another layer has taken its place, as of an adapter or of tensor
    parallelism. Nor in fp16, whose gradients must be scaled before they are computed."""
    head = model.get_output_embeddings()
    if not isinstance(head, LossHead) or _dtype(head.weight) == torch.float16:
        return None
    return head


def _dtype(tensor: Tensor) -> torch.dtype:
    """The type in which products with a tensor are computed."""
    device = tensor.device.type
    is_cast = torch.is_autocast_enabled(device)
    return torch.get_autocast_dtype(device) if is_cast else tensor.dtype


@torch.compiler.disable
def _loss(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, counted: bool
) -> tuple[Tensor, Tensor | None]:
    dtype = _dtype(weight)
    hidden, labels = hidden.flatten(0, -2).to(dtype), labels.flatten()
    weight, bias = weight.to(dtype), None if bias is None else bias.to(dtype)
    with torch.autocast(hidden.device.type, enabled=False):
        if hidden.is_cuda and not counted and importlib.util.find_spec("liger_kernel") is not None:
            return _by_liger(hidden, weight, bias, labels), None
        is_learned = torch.is_grad_enabled()
        loss, correct = _Chunked.apply(hidden, weight, bias, labels, counted, is_learned)
    return loss, correct if counted else None


def _by_liger(hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor) -> Tensor:
    """The same loss by Liger Kernel, whose softmax is one pass over the logits. Untested: it needs
    a GPU with Triton."""
    from liger_kernel.transformers import (  # type: ignore[import-not-found]
        LigerFusedLinearCrossEntropyLoss,
    )

    criterion = LigerFusedLinearCrossEntropyLoss(reduction="sum", accum_dtype=torch.float32)
    loss: Tensor = criterion(weight, hidden, labels, bias)
    return loss


class _Chunked(torch.autograd.Function):
    """The loss of hidden states (tokens, width) and labels (tokens,), and its gradients."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        labels: Tensor,
        counted: bool,
        is_learned: bool,
    ) -> tuple[Tensor, Tensor]:
        needed = [is_learned and is_needed for is_needed in ctx.needs_input_grad[:3]]
        loss, correct, ctx.gradients = _chunks(hidden, weight, bias, labels, counted, needed)
        ctx.mark_non_differentiable(correct)
        return loss, correct

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, scale: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        # Let go of here, so that they become the weights' gradients without a copy.
        gradients, ctx.gradients = ctx.gradients, None
        assert gradients is not None, "the gradients of a chunked loss can be had once"
        return (*(None if one is None else one.mul_(scale) for one in gradients), None, None, None)


def _chunks(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    counted: bool,
    needed: Sequence[bool],
) -> tuple[Tensor, Tensor, list[Tensor | None]]:
    """The loss, the number of correct predictions, and the gradients of hidden states, weight and
    bias, of which those are made that are needed."""
    loss = hidden.new_zeros((), dtype=torch.float32)
    correct = labels.new_zeros(())
    by_hidden = torch.zeros_like(hidden) if needed[0] else None
    # In fp32, as they are sums over many chunks.
    by_weight = torch.zeros_like(weight, dtype=torch.float32) if needed[1] else None
    by_bias = None
    if bias is not None and needed[2]:
        by_bias = torch.zeros_like(bias, dtype=torch.float32)
    learned = torch.arange(len(labels), device=labels.device)[labels >= 0]
    size = len(weight)
    together = chunk_tokens(hidden.device, size)
    for group in learned.split(max(together, GROUP_LOGITS // size)):
        by_logits = weight.new_empty((len(group), size)) if any(needed) else None
        start = 0
        for places in group.split(together):
            states, targets = hidden[places], labels[places][:, None]
            logits = functional.linear(states, weight, bias)
            if counted:
                correct += (logits.argmax(-1, keepdim=True) == targets).sum()
            likelihoods = torch.log_softmax(logits, -1, dtype=torch.float32)
            loss -= likelihoods.gather(1, targets).sum()
            if by_logits is None:
                continue
            exact = likelihoods.exp_()
            exact.scatter_add_(1, targets, exact.new_full(targets.shape, -1.0))
            if by_bias is not None:
                by_bias += exact.sum(0)
            rounded = by_logits[start : start + len(places)].copy_(exact)
            if by_hidden is not None:
                by_hidden[places] = rounded @ weight
            start += len(places)
        if by_logits is None or by_weight is None:
            continue
        if by_weight.dtype == weight.dtype:
            torch.addmm(by_weight, by_logits.T, hidden[group], out=by_weight)
        else:
            by_weight += by_logits.T @ hidden[group]
    return loss, correct, [by_hidden, by_weight, by_bias]
