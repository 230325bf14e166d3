"""The recipe's section `finetune` with `task: chat`."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from trainers.tasks.conversations.rows import ConversationRows
from trainers.tasks.conversations.spec import ConversationTask
from trainers.tasks.writing.spec import WritingTask


class Chat(ConversationRows, WritingTask, ConversationTask):
    implementation: ClassVar[str] = "trainers.tasks.chat.task:ChatTask"
    predictor: ClassVar[str] = "trainers.tasks.chat.predictor:ChatPredictor"
    route: ClassVar[str] = "/v1/chat/completions"
    sample: ClassVar[Mapping[str, Any]] = {
        "messages": [{"role": "user", "content": "What is the capital of France?"}]
    }
    input_forms: ClassVar[tuple[tuple[str, ...], ...]] = (("messages",), ("prompt",))
    optional_inputs: ClassVar[tuple[str, ...]] = ("input", "system", "tools")

    task: Literal["chat"] = "chat"

    @classmethod
    def request(cls, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        asked = ({"messages": row["messages"], "tools": row.get("tools") or ""} for row in rows)
        return {"conversations": [*asked]}
