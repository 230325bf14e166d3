"""What raymill knows of a model, beside its weights."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cluster.errors import UserError
from cluster.store.artifacts import BASE, Artifact, Draft
from trainers.methods.record import PEFT_CONFIG, RECORD, AdapterRecord

CARD = "raymill.json"


def describe(
    draft: Draft,
    parents: Mapping[str, Artifact],
    task: str,
    metrics: Mapping[str, Any],
    **details: Any,
) -> None:
    """Adds `raymill.json`, which serving reads, and a model card (`card.md.jinja`)."""
    ancestry = {stage: parent.id for stage, parent in parents.items()}
    described = {
        "id": draft.id,
        "task": task,
        **details,
        "metrics": dict(metrics),
        "lineage": ancestry,
    }
    card = _card(described, _of_adapter(draft, parents.get(BASE)))
    with draft.folder() as folder:
        (folder / CARD).write_text(json.dumps(described, indent=1, ensure_ascii=False), "utf-8")
        (folder / "README.md").write_text(card, "utf-8")


def read_card(model_folder: Path) -> dict[str, Any]:
    """Raises UserError where it is damaged."""
    try:
        card: dict[str, Any] = json.loads((model_folder / CARD).read_text("utf-8"))
    except ValueError as error:
        raise UserError(f"{model_folder / CARD} is damaged: {error}") from error
    return card


def _of_adapter(draft: Draft, base: Artifact | None) -> dict[str, Any]:
    """What a card says of an adapter, which needs its base to be read; nothing of a whole model."""
    files = draft.storage.files(draft.place)
    if RECORD not in files:
        return {}
    peft = draft.storage.read(f"{draft.place}/{PEFT_CONFIG}") if PEFT_CONFIG in files else b"null"
    return {
        "adapter": AdapterRecord.parse(draft.storage.read(f"{draft.place}/{RECORD}")),
        "peft": json.loads(peft),
        "base_is_adapter": base is not None and RECORD in base.manifest.files,
    }


def _card(described: Mapping[str, Any], of_adapter: Mapping[str, Any]) -> str:
    import jinja2

    environment = jinja2.Environment(
        trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    template = environment.from_string(Path(__file__).with_name("card.md.jinja").read_text("utf-8"))
    return template.render({"adapter": None, "peft": None, **described, **of_adapter}) + "\n"
