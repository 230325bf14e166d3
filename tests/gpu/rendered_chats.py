"""Conversations as the stage `render` leaves them, without Ray: a user gives the first lines of a
part of Python's own library, and the assistant goes on."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cluster.store import artifacts
from cluster.store.artifacts import Artifact
from cluster.store.storage import Storage
from tests.gpu.packed_corpus import HELD_OUT, corpus
from tests.gpu.sizes import Sizes
from tests.gpu.texts import documents
from trainers.corpora.tokens.pack import write_arrow
from trainers.models.build import Start
from trainers.models.shape import Shape
from trainers.render import rendered
from trainers.tasks.chat.spec import Chat
from trainers.tasks.chat.task import ChatTask
from trainers.tasks.conversations.messages import ASSISTANT, USER, message

LINES = 3
"""That are given."""


def chat_task(folder: Path, sizes: Sizes, settings: Chat, shape: Shape, full: bool) -> ChatTask:
    """From random weights of a shape, on rows that are as long as they can be, or as they come."""
    tokenizer, start = str(corpus(folder, sizes).path / "tokenizer"), Start(shape=shape)
    outline = ChatTask(settings, None, start, tokenizer)
    return ChatTask(settings, _rows(folder, sizes, outline, full), start, tokenizer)


def conversations(sizes: Sizes, full: bool) -> Iterator[dict[str, Any]]:
    """One of each part; or each of so many parts that it must be cut."""
    parts = documents(sizes.text_bytes)
    together = 6 * sizes.sequence_length if full else 1  # characters, of which some make a token
    text = ""
    for part in parts:
        text += part
        lines = text.split("\n")
        if len(text) < together or len(lines) <= LINES:
            continue
        # Stripped, or their first spaces would be of one token with the template's line break.
        asked, answer = ("\n".join(some).strip() for some in (lines[:LINES], lines[LINES:]))
        yield {"messages": [message(USER, asked), message(ASSISTANT, answer)], "tools": ""}
        text = ""


def _rows(folder: Path, sizes: Sizes, task: ChatTask, full: bool) -> Artifact:
    """In a workspace at `folder`; those that are there already, if there are some."""
    name = f"rendered/gpu-{'full' if full else 'short'}-00"
    storage = Storage.at(str(folder))
    known = artifacts.find(storage, name)
    if known is not None:
        return known
    chosen = [one for one, _ in zip(conversations(sizes, full), range(sizes.chats), strict=False)]
    table, _ = rendered(task, chosen)
    with artifacts.drafting(storage, name) as draft:
        with draft.folder() as written:
            write_arrow(table, written / "train.arrow")
            write_arrow(table[:HELD_OUT], written / "validation.arrow")
        none = {"dropped": {}, "noted": {}}
        return draft.publish(
            recipe="gpu", stage="render", parents={}, inputs={}, metrics={"train": none}
        )
