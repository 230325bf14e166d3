"""The first request to an endpoint, which shows that it answers: of a row that its model was
evaluated on. Pure but for reading that row."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from cluster.store import artifacts
from cluster.store.artifacts import Artifact
from trainers.tasks.spec import TaskSection

MAX_CHARACTERS = 60
"""Of a text in it."""
MAX_TOKENS = 24
"""Of the answer of a model that writes."""


class FirstRequest(NamedTuple):
    route: str
    body: dict[str, Any]
    version_key: str
    """Of the answer: which version of the model gave it."""
    answer_keys: tuple[str | int, ...]
    """Where what people look at is in the answer."""

    def answer_of(self, response: Any) -> Any:
        for key in self.answer_keys:
            response = response[key]
        return response


def first_request(promotion: Artifact, task: type[TaskSection]) -> FirstRequest:
    """By the beginning of a row of the test split that the promoted model was evaluated on, or else
    by the task's sample."""
    row = _row(promotion) or dict(task.sample)
    if task.servable == "encoder":
        for name, role in task.roles.items():
            if role.kind == "text" and row.get(name) is not None:  # null: of another form of rows
                row[name] = row[name][:MAX_CHARACTERS]
        return FirstRequest(task.route, task.request([row]), "version", ("predictions", 0))
    asked = {"model": promotion.manifest.recipe, "max_tokens": MAX_TOKENS, "temperature": 0}
    version = "system_fingerprint"
    if task.route == "/v1/completions":
        body = {**asked, "prompt": row["prompt"][:MAX_CHARACTERS]}
        return FirstRequest(task.route, body, version, ("choices", 0, "text"))
    messages = row.get("messages") or row.get("prompt") or row["chosen"]
    said = messages if isinstance(messages, str) else _said(messages)
    body = {**asked, "messages": [{"role": "user", "content": said[:MAX_CHARACTERS]}]}
    return FirstRequest(task.route, body, version, ("choices", 0, "message", "content"))


def _said(messages: Sequence[Mapping[str, Any]]) -> str:
    """What the user says first."""
    return next(one["content"] for one in messages if one["role"] == "user")


def _row(promotion: Artifact) -> dict[str, Any] | None:
    examples = artifacts.lineage(promotion).get("examples")
    try:
        file = promotion.storage.open(f"{examples}/test.arrow")
    except FileNotFoundError:  # they may be deleted: the model answers without them
        return None
    with file, pa.ipc.open_stream(file) as batches:
        row: dict[str, Any] = next(one for one in batches if len(one)).slice(0, 1).to_pylist()[0]
    return row
