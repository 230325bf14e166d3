"""From an engine to a plain Hugging Face folder, with what raymill knows of the model beside it."""

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch.distributed as dist

from cluster.artifacts import Artifact, Draft
from trainers import model as models

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast


def export(
    engine: Any, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerFast", draft: Draft
) -> None:
    """Called by every rank; rank 0 writes config, tokenizer and weights: in fp32, or under ZeRO-3
    as they were trained."""
    import deepspeed

    sharded = engine.zero_optimization_stage() == 3
    gather = (
        deepspeed.zero.GatheredParameters(list(model.parameters()), modifier_rank=0)
        if sharded
        else contextlib.nullcontext()
    )
    with gather:
        if dist.get_rank() == 0:
            with draft.folder() as folder:
                models.save(model.float() if not sharded else model, tokenizer, folder)
    dist.barrier()


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
    return json.loads((model_folder / CARD).read_text("utf-8"))


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
