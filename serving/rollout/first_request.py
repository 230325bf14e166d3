"""The first request to an endpoint: a row that the model was evaluated on, or a made-up one."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from cluster.store import artifacts
from cluster.store.artifacts import Artifact
from trainers.tasks.spec import TaskSection

MAX_CHARACTERS = 60


def first_request(promotion: Artifact, task: type[TaskSection]) -> dict[str, Any]:
    """The body of a request, with the first short row of the test split that the promoted model was
    evaluated on, else the beginning of a long one."""
    examples = artifacts.lineage(promotion).get("examples")
    try:
        content = promotion.storage.read(f"{examples}/test.arrow")
    except FileNotFoundError:  # they may be deleted: the model answers without them
        return task.request([task.sample])
    rows = pa.ipc.open_stream(content).read_all().to_pylist()
    return task.request(
        [next((row for row in rows if row == _cut(row, task)), _cut(rows[0], task))]
    )


def _cut(row: Mapping[str, Any], task: type[TaskSection]) -> dict[str, Any]:
    texts = {name for name, role in task.roles.items() if role.kind == "text"}
    return {name: value[:MAX_CHARACTERS] if name in texts else value for name, value in row.items()}
