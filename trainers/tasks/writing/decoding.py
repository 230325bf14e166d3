"""Answers that a model writes: greedy, many at once, by Transformers' `generate`.

Prompts of a decoder-only model are padded at the left, so that each answer follows its prompt's
last token; what an encoder reads is padded at the right. Every answer ends after so many tokens.
"""

from collections.abc import Collection, Sequence
from typing import Any, Literal, NamedTuple

import torch

from trainers.models.lean_imports import transformers
from trainers.tasks.encoding import TokenLimit, pad

CACHED_TOKENS = {"cpu": 64 * 128, "cuda": 512 * 128}
"""Tokens of which a model holds keys and values at once, with padding, at most."""

FinishReason = Literal["stop", "length"]


class Written(NamedTuple):
    ids: list[int]
    """Without the token that ends the answer."""
    finish_reason: FinishReason
    """`stop` where the model ended it, `length` where it was as long as it may be."""


class Writer:
    """A model that answers prompts, each as if it were alone."""

    def __init__(self, model: Any, stop_ids: Collection[int], pad_id: int, most_new_tokens: int):
        """An answer ends at any of the stop ids, and after so many tokens."""
        self.model, self.stop_ids, self.pad_id = model, frozenset(stop_ids), pad_id
        self.most_new_tokens = most_new_tokens
        self._limit = TokenLimit(CACHED_TOKENS[model.device.type])
        model.generation_config = self._greedy(model.generation_config)

    def _greedy(self, known: Any) -> Any:
        """Greedy decoding, without what a model's own config adds, such as a penalty for
        repetition: else the figures of two models would be of two ways to write."""
        return transformers.GenerationConfig(
            do_sample=False,
            max_new_tokens=self.most_new_tokens,
            eos_token_id=sorted(self.stop_ids),
            pad_token_id=self.pad_id,
            decoder_start_token_id=known.decoder_start_token_id,
            forced_bos_token_id=known.forced_bos_token_id,  # of some, the language to write
        )

    @torch.inference_mode()
    def write(self, prompts: Sequence[Sequence[int]]) -> list[Written]:
        """An answer to each; of fewer at once from then on, where a GPU lacks memory."""
        is_encoded = self.model.config.is_encoder_decoder

        def written(places: list[int]) -> list[Written]:
            some = [prompts[place] for place in places]
            batch = pad(some, self.pad_id, "right" if is_encoded else "left")
            inputs = {name: value.to(self.model.device) for name, value in batch.items()}
            made = self.model.generate(**inputs)
            begin = 1 if is_encoded else inputs["input_ids"].shape[1]
            return [self._cut(ids) for ids in made[:, begin:].tolist()]

        lengths = [len(prompt) + self.most_new_tokens for prompt in prompts]
        return self._limit.in_order(written, lengths)

    def _cut(self, ids: Sequence[int]) -> Written:
        """An answer without what `generate` padded it with, up to the longest of its batch."""
        end = next((place for place, one in enumerate(ids) if one in self.stop_ids), None)
        return Written([*ids[:end]], "length" if end is None else "stop")
