"""Replaced-token detection (ELECTRA, Clark et al. 2020): a small generator fills the masked places
M, and the discriminator says of every token whether it is the original. Their losses are

    L_G = - sum_(i in M) log p_G(x_i | masked x)
    L_D = - sum_t  x'_t = x_t ? log D(x', t) : log(1 - D(x', t)),   x'_i drawn from p_G for i in M

and, as the authors train them, the mean of L_G over M + 50 x the mean of L_D over all tokens. One
divisor serves both here, the number of tokens that can be masked: M has `mask_probability` of them,
so L_G / mask_probability + 50 L_D over that number is the same in expectation, and does not depend
on how a batch is parted. Special tokens are never replaced and teach nothing.

No gradient goes through the drawing. Both share their embeddings. The model that is kept is the
discriminator; the generator lies beside it, in `generator/`, for going on.
"""

import copy
import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from cluster.errors import UserError
from trainers.corpora.feeding.feed import Rows
from trainers.models.build import Start, build, packed_inputs
from trainers.models.lean_imports import transformers
from trainers.tasks.flops import Cost
from trainers.tasks.pretraining.language_model import ids_and_segments, tensors
from trainers.tasks.pretraining.masked_lm import PREDICTION_HEADS, Masking
from trainers.tasks.task import IGNORED, Batch, Counts, Guess, lengths, tokens

GENERATOR = "generator"


class Electra(nn.Module):
    """A discriminator with its generator."""

    def __init__(self, discriminator: Any, generator: Any):
        super().__init__()
        self.discriminator, self.generator = discriminator, generator
        generator.electra.embeddings = discriminator.electra.embeddings
        generator.generator_lm_head.weight = generator.get_input_embeddings().weight

    @property
    def parts(self) -> dict[str, Any]:
        """What is kept, by its folder."""
        return {"": self.discriminator, GENERATOR: self.generator}


@dataclasses.dataclass(frozen=True)
class ReplacedTokens(Masking):
    generator_size: float = 0.25
    discriminator_weight: float = 50.0

    def model(self) -> Any:
        discriminator = self._model("AutoModelForPreTraining")
        if discriminator.config.model_type != "electra":
            raise UserError(
                f"pretrain.{self.start.key}: replaced_tokens needs an electra, "
                f"found {discriminator.config.model_type!r}"
            )
        beside = Path(self.start.base or "", GENERATOR)
        if self.start.base and beside.is_dir():
            start = Start(base=str(beside))
            return Electra(discriminator, build(start, "AutoModelForMaskedLM", self.tokenizer()))
        config = generator_config(discriminator.config, self.generator_size)
        return Electra(discriminator, transformers.AutoModelForMaskedLM.from_config(config))

    def collate(self, rows: Sequence[dict[str, Any]], numbers: Sequence[int]) -> Batch:
        """`labels` are the originals of all tokens that can be masked, `masked` says which are, and
        `uniform` draws what the generator writes there."""
        ids, segments = ids_and_segments(rows)
        _, mask, _ = self._tokens
        maskable = self._maskable(ids, segments)
        labels = np.where(maskable, ids, IGNORED)
        masked = np.zeros_like(maskable)
        uniform = np.empty(ids.shape, dtype=np.float32)
        for row, number in enumerate(numbers):
            chance, uniform[row] = self._draw(number).random((2, ids.shape[1]))
            masked[row] = maskable[row] & self._chosen(ids[row], chance)
        return tensors(
            input_ids=np.where(masked, mask, ids),
            segments=segments,
            labels=labels,
            masked=masked,
            uniform=uniform,
        )

    def loss(self, model: Any, batch: Batch) -> tuple[Tensor, Counts]:
        masked, learned = batch["masked"], batch["labels"] != IGNORED
        originals = batch["labels"][masked]
        inputs = packed_inputs(model.generator, batch["input_ids"], batch["segments"])
        hidden = model.generator.base_model(**inputs).last_hidden_state[masked]
        logits = PREDICTION_HEADS["electra"](model.generator)(hidden).float()
        generator_loss = functional.cross_entropy(logits, originals, reduction="sum")

        written = torch.where(learned, batch["labels"], batch["input_ids"])
        written[masked] = drawn(logits.detach(), batch["uniform"][masked])
        replaced = (written != batch["labels"])[learned]
        inputs = {**inputs, "input_ids": written}
        scores = model.discriminator(**inputs).logits[learned].float()
        discriminator_loss = functional.binary_cross_entropy_with_logits(
            scores, replaced.float(), reduction="sum"
        )
        loss = (
            generator_loss / self.mask_probability + self.discriminator_weight * discriminator_loss
        )
        return loss, {"correct": ((scores > 0) == replaced).sum()}

    def metrics(self, counts: Mapping[str, Tensor]) -> dict[str, float]:
        """The accuracy is the discriminator's, over all tokens: as most are originals, high."""
        return {
            "loss": float(counts["loss"] / counts["targets"]),
            "accuracy": float(counts["correct"] / counts["targets"]),
        }

    def guess(self, validation: Rows) -> Guess:
        """Every token is as likely as any other, and as likely replaced as not."""
        size, weight = len(self.tokenizer()), self.discriminator_weight
        value = math.log(size) + weight * math.log(2)
        name = f"the logarithm of {size:,} tokens, and {weight:g} times that of 2"
        return Guess("loss", value, "min", name)

    def flops(self, model: Any) -> Callable[[Batch], float]:
        """The generator's head fills the masked places, the discriminator's judges all."""
        generator, discriminator = Cost.of(model.generator), Cost.of(model.discriminator)

        def of(batch: Batch) -> float:
            read = lengths(batch)
            filled = generator.flops(read, int(batch["masked"].sum()))
            return filled + discriminator.flops(read, tokens(batch))

        return of


def drawn(logits: Tensor, uniform: Tensor) -> Tensor:
    """A token for each row of logits, by its chance: where the sum of the chances passes `uniform`.
    So what is drawn follows from the sample's number, not from a generator on some device."""
    sums = torch.softmax(logits, dim=-1).cumsum(dim=-1)
    tokens = torch.searchsorted(sums, uniform[:, None] * sums[:, -1:], right=True)
    return tokens[:, 0].clamp(max=logits.shape[-1] - 1)


def generator_config(config: Any, size: float) -> Any:
    """The config of a discriminator with its width times `size`, in whole heads; as deep, and with
    the same embeddings (Clark et al. 2020, 3.3: a quarter to a half works best). Pure."""
    heads = max(1, round(config.num_attention_heads * size))
    share = heads / config.num_attention_heads
    made = copy.deepcopy(config)
    made.num_attention_heads = heads
    made.hidden_size = round(config.hidden_size * share)
    made.intermediate_size = max(1, round(config.intermediate_size * share))
    return made
