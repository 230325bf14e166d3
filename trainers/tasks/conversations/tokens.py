"""What tasks share whose rows are conversations: a tokenizer with its chat template."""

import functools
from typing import TYPE_CHECKING

from trainers.tasks.conversations.renderer import Renderer
from trainers.tasks.conversations.spec import ConversationTask
from trainers.tasks.conversations.template import read_template
from trainers.tasks.learned_tokens import CausalTokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


class ConversationTokens(CausalTokens):
    settings: ConversationTask

    def tokenizer(self) -> "PreTrainedTokenizerFast":
        tokenizer = super().tokenizer()
        template = read_template(self.settings.template)
        if template is not None:
            tokenizer.chat_template = template
        return tokenizer

    @functools.cached_property
    def renderer(self) -> Renderer:
        return Renderer(self.loaded_tokenizer)
