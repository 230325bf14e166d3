"""Conversations in training: the cross-entropy of what the assistant says, to its end of turn."""

from collections.abc import Mapping
from typing import Any

from trainers.tasks.chat.spec import Chat
from trainers.tasks.conversations.templated_tokens import TemplatedTokens
from trainers.tasks.learned_tokens import Rendering


class ChatTask(TemplatedTokens):
    settings: Chat

    def render(self, row: Mapping[str, Any]) -> Rendering:
        return self.fit(self.renderer.sequences(row["messages"], row["tools"]))
