"""What raymill knows of a model, beside its weights."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cluster.errors import UserError
from cluster.store.artifacts import Artifact, Draft

CARD = "raymill.json"


def describe(
    draft: Draft,
    parents: Mapping[str, Artifact],
    task: str,
    metrics: Mapping[str, Any],
    **details: Any,
) -> None:
    """Adds `raymill.json`, which serving reads, and a model card."""
    ancestry = {stage: parent.id for stage, parent in parents.items()}
    described = {
        "id": draft.id,
        "task": task,
        **details,
        "metrics": dict(metrics),
        "lineage": ancestry,
    }
    with draft.folder() as folder:
        (folder / CARD).write_text(json.dumps(described, indent=1, ensure_ascii=False), "utf-8")
        (folder / "README.md").write_text(_card(described), "utf-8")


def read_card(model_folder: Path) -> dict[str, Any]:
    """Raises UserError where it is damaged."""
    try:
        card: dict[str, Any] = json.loads((model_folder / CARD).read_text("utf-8"))
    except ValueError as error:
        raise UserError(f"{model_folder / CARD} is damaged: {error}") from error
    return card


def _card(described: dict[str, Any]) -> str:
    rows = [
        f"| {name} | {value} |"
        for name, value in described["metrics"].items()
        if not isinstance(value, dict)
    ]
    parents = [f"- {stage}: `{parent}`" for stage, parent in described["lineage"].items()]
    return "\n".join(
        [
            "---\nlibrary_name: transformers\n---",
            f"# {described['id']}",
            f"Made by raymill for the task `{described['task']}`. The figures are of the "
            "validation data.",
            "| metric | value |\n|---|---|",
            *rows,
            "\nMade from:\n",
            *parents,
            "",
        ]
    )
