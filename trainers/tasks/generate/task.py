"""Text to text in training: the cross-entropy of each token of a completion, after its prompt.

A decoder-only model has both in one sequence; the encoder of an encoder-decoder reads the prompt,
and its decoder writes the completion.
"""

import collections
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from cluster.errors import UserError
from cluster.store.artifacts import Artifact
from trainers.models.build import Start, architecture_of, refuse_longer, remark
from trainers.tasks.conversations.messages import ASSISTANT, message
from trainers.tasks.conversations.overlong import CUT, DROPPED
from trainers.tasks.conversations.template import NotRendered
from trainers.tasks.conversations.templated_tokens import TemplatedTokens
from trainers.tasks.cross_entropy import cross_entropy
from trainers.tasks.encoding import pad
from trainers.tasks.flops import EncoderDecoderCost
from trainers.tasks.generate.encoding import (
    Reading,
    completion_ids,
    encode_prompts,
    one_sequence,
    prompt_message,
)
from trainers.tasks.generate.spec import Generate
from trainers.tasks.learned_tokens import UNKNOWN, LearnedTokens, Rendering
from trainers.tasks.task import IGNORED, Batch, Counts, lengths

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PROMPT_CUT = "prompts cut to max_source_length"


def generate_task(
    settings: Generate, examples: Artifact | None, start: Start, *further: Any
) -> LearnedTokens:
    """The Task for the architecture of the model that training starts from. Raises UserError for
    settings that do not go with it."""
    if not architecture_of(start).is_encoder_decoder:
        return DecoderTask(settings, examples, start, *further)
    for key, possible in (("overlong", ("drop", "keep_start")), ("prompt_format", ("plain",))):
        if getattr(settings, key) not in possible:
            raise UserError(
                f"finetune.{key}: the model is an encoder-decoder, which has prompt and completion "
                f"apart; set {' or '.join(possible)}, found {getattr(settings, key)}"
            )
    return EncoderDecoderTask(settings, examples, start, *further)


class DecoderTask(TemplatedTokens):
    """Prompt and completion in one sequence, of which the completion is learned."""

    settings: Generate

    def render(self, row: Mapping[str, Any]) -> Rendering:
        settings, tokenizer = self.settings, self.loaded_tokenizer
        if settings.prompt_format == "chat":
            asked = prompt_message(row["prompt"], settings.instruction)
            answer = message(ASSISTANT, row["completion"])
            return self.fit([self.renderer.render([asked, answer])])
        reading = Reading(settings.instruction, settings.max_source_length, is_encoded=False)
        (prompt,) = encode_prompts(tokenizer, [row["prompt"]], reading)
        completion = completion_ids(tokenizer, row["completion"])
        rendering = self.fit([one_sequence(prompt, completion)])
        noted = {PROMPT_CUT: 1} if prompt.is_cut else {}
        return rendering._replace(noted={**rendering.noted, **noted})


class EncoderDecoderTask(LearnedTokens):
    """The encoder reads `input_ids`, the decoder writes `labels`."""

    settings: Generate

    columns: ClassVar[Mapping[str, pa.DataType]] = {
        "input_ids": pa.list_(pa.int32()),
        "labels": pa.list_(pa.int32()),
    }

    def model(self) -> "PreTrainedModel":
        model = self.build("AutoModelForSeq2SeqLM")
        if self.settings.packing:
            remark(model, "packing: an encoder-decoder reads each row by itself, padded")
        read, in_front = self.settings.max_source_length, self.settings.virtual_tokens
        refuse_longer(model, "finetune.max_source_length", read, in_front)
        return model

    def render(self, row: Mapping[str, Any]) -> Rendering:
        settings = self.settings
        reading = Reading(settings.instruction, settings.max_source_length, is_encoded=True)
        (prompt,) = encode_prompts(self.loaded_tokenizer, [row["prompt"]], reading)
        labels = completion_ids(self.loaded_tokenizer, row["completion"])
        most = settings.max_length
        is_cut = len(labels) > most
        if is_cut and settings.overlong == "drop":
            raise NotRendered(DROPPED)
        has_unknown = self.unknown_id in (*prompt.input_ids, *labels)
        noted = collections.Counter({PROMPT_CUT: prompt.is_cut, CUT: is_cut, UNKNOWN: has_unknown})
        sequence = {"input_ids": prompt.input_ids, "labels": labels[:most]}
        return Rendering([sequence], +noted)

    def longest_rows(self, number: int) -> list[dict[str, Any]]:
        read, written = self.settings.max_source_length, self.settings.max_length
        row = {"input_ids": np.zeros(read, np.int32), "labels": np.zeros(written, np.int32)}
        return [row] * number

    def length(self, row: Mapping[str, Any]) -> int:
        return len(row["input_ids"]) + len(row["labels"])

    def collate(self, rows: Sequence[dict[str, Any]], numbers: Sequence[int]) -> Batch:
        read = pad([row["input_ids"].tolist() for row in rows], self.pad_id)
        written = pad([row["labels"].tolist() for row in rows], IGNORED)
        return {**read, "labels": written["input_ids"]}

    def loss(self, model: "PreTrainedModel", batch: Batch) -> tuple[Tensor, Counts]:
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        before = written_before(batch["labels"], model.config)
        logits = model(**inputs, decoder_input_ids=before, use_cache=False).logits
        return cross_entropy(logits, batch["labels"], counted=not model.training)

    def flops(self, model: "PreTrainedModel") -> Callable[[Batch], float]:
        cost = EncoderDecoderCost.of(model)
        return lambda batch: cost.flops(lengths(batch), (batch["labels"] != IGNORED).sum(-1))


def written_before(labels: Tensor, config: Any) -> Tensor:
    """What the decoder has written before each label: the token it begins with, and the labels up
    to that place. What stands behind a label of padding is not learned."""
    known = labels.masked_fill(labels == IGNORED, config.pad_token_id)
    begin = known.new_full((len(known), 1), config.decoder_start_token_id)
    return torch.cat([begin, known[:, :-1]], dim=1)
