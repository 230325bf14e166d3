"""Conversations in training: the cross-entropy of what the assistant says, to its end of turn."""

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trainers.tasks.chat.spec import Chat
from trainers.tasks.conversations.renderer import Renderer
from trainers.tasks.conversations.template import read_template
from trainers.tasks.learned_tokens import CausalTokens, Rendering

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


class ChatTask(CausalTokens):
    settings: Chat

    def tokenizer(self) -> "PreTrainedTokenizerFast":
        tokenizer = super().tokenizer()
        template = read_template(self.settings.template)
        if template is not None:
            tokenizer.chat_template = template
        return tokenizer

    def render(self, row: Mapping[str, Any]) -> Rendering:
        return self.fit(self.renderer.sequences(row["messages"], row["tools"]))

    @functools.cached_property
    def renderer(self) -> Renderer:
        return Renderer(self.loaded_tokenizer)
