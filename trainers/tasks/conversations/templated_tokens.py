"""What tasks share whose rows become token ids by a chat template: a tokenizer with that."""

import functools
from typing import TYPE_CHECKING

from trainers.tasks.conversations.renderer import Renderer
from trainers.tasks.conversations.spec import TemplatedTask
from trainers.tasks.conversations.template import read_template, with_variables
from trainers.tasks.learned_tokens import CausalTokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


class TemplatedTokens(CausalTokens):
    settings: TemplatedTask

    def tokenizer(self) -> "PreTrainedTokenizerFast":
        """The tokenizer with the recipe's template and the values of its variables, as it is saved
        with the model."""
        tokenizer, settings = super().tokenizer(), self.settings
        template = read_template(settings.template) or tokenizer.chat_template
        tokenizer.chat_template = with_variables(template, settings.chat_template_kwargs)
        return tokenizer

    @functools.cached_property
    def renderer(self) -> Renderer:
        return Renderer(self.loaded_tokenizer)
