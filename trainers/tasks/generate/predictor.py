"""A trained model that writes a text from a text."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from trainers.corpora.tokens import tokenizer as tokenizers
from trainers.models.lean_imports import transformers
from trainers.tasks.conversations.messages import ASSISTANT, message
from trainers.tasks.conversations.renderer import Renderer
from trainers.tasks.encoding import Encoded, InputText, beginning_of_raw
from trainers.tasks.generate.encoding import (
    Reading,
    completion_ids,
    encode_prompts,
    one_sequence,
    prompt_message,
)
from trainers.tasks.writing.predictor import Truth, WritingPredictor, learned_of


class GeneratePredictor(WritingPredictor):
    Input: ClassVar[Any] = InputText
    inputs: ClassVar[str] = "prompts"

    def __init__(self, card: Mapping[str, Any], tokenizer: Any, model: Any):
        self._instruction: str = card["instruction"]
        self._is_chat = card["prompt_format"] == "chat"
        self._is_encoded: bool = model.config.is_encoder_decoder
        self._renderer = Renderer(tokenizer) if self._is_chat else None
        self._end = tokenizers.ends(tokenizer)[1]
        super().__init__(card, tokenizer, model)

    @classmethod
    def head_of(cls, place: Path | str) -> str:
        config = transformers.AutoConfig.from_pretrained(place)
        return "AutoModelForSeq2SeqLM" if config.is_encoder_decoder else "AutoModelForCausalLM"

    @property
    def stop_ids(self) -> Sequence[int]:
        return [self._end] if self._renderer is None else self._renderer.stop_ids

    def encode(self, inputs: Sequence[str]) -> list[Encoded]:
        if self._renderer is not None:
            return [self.read(self._chat_prompt(self.cleaned(one))) for one in inputs]
        return encode_prompts(self.tokenizer, inputs, self._reading, beginning_of_raw(self.clean))

    @functools.cached_property
    def _reading(self) -> Reading:
        return Reading(self._instruction, self.card["max_source_length"], self._is_encoded)

    def _chat_prompt(self, prompt: str) -> list[int]:
        assert self._renderer is not None
        return self._renderer.prompt([prompt_message(prompt, self._instruction)])

    def input_of(self, row: Mapping[str, Any]) -> str:
        return row["prompt"]

    def truth(self, row: Mapping[str, Any]) -> Truth:
        """The row as DecoderTask and EncoderDecoderTask have it in training."""
        prompt, gold = row["prompt"], row["completion"]
        if self._renderer is not None:
            asked = prompt_message(prompt, self._instruction)
            rendered = self._renderer.render([asked, message(ASSISTANT, gold)])
            return Truth(prompt, gold, learned_of(rendered))
        (encoded,) = encode_prompts(self.tokenizer, [prompt], self._reading)
        completion = completion_ids(self.tokenizer, gold)
        if self._is_encoded:
            return Truth(prompt, gold, {"input_ids": encoded.input_ids, "labels": completion})
        return Truth(prompt, gold, learned_of(one_sequence(encoded, completion)))
