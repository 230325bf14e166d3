"""Which model of the workspace a recipe's `base` names: so trainings chain.

A `base` is a folder, a model of the workspace (`model/...`, or the name of the recipe that made
it), or a hub id, in this order.
"""

from collections.abc import Mapping
from pathlib import Path

from cluster.errors import UserError
from cluster.recipe.section import nearest
from cluster.store import artifacts
from cluster.store.artifacts import Artifact
from cluster.store.lookup import lookup
from cluster.store.storage import Storage

NEAR = 0.8
"""How alike names are, by difflib, of which one is told in place of the other. Short names of the
hub, such as bert-base-chinese, resemble those of recipes."""


def base_model(storage: Storage, base: str | None, key: str, recipe: str) -> Artifact | None:
    """The model that `base` names, the newest where a recipe made several; None if it is a folder
    or hub id. `key` is the recipe's key that says so. Raises UserError for an id that is not there.
    """
    if base is None or Path(base).expanduser().is_dir():
        return None
    if base.startswith("model/"):
        try:
            return lookup(storage, "model", base)
        except UserError as error:
            raise UserError(f"{key}: {error}") from None
    if "/" in base:
        return None
    made = [model for model in artifacts.listed(storage, "model") if model.manifest.recipe == base]
    if made and base == recipe:
        raise UserError(
            f"{key}: {base!r} is this recipe itself, whose newest model changes with each run; "
            f"name one, such as {made[-1].id}"
        )
    return made[-1] if made else None


def taken_for_hub_id(storage: Storage, base: str | None) -> str:
    """What to tell of a `base` that no model of the workspace has for a name, though one has a name
    much like it; else nothing."""
    if base is None or "/" in base or Path(base).expanduser().is_dir():
        return ""
    names = {model.manifest.recipe for model in artifacts.listed(storage, "model")}
    hint = "" if base in names else nearest(base, names, NEAR)
    told = f"{base!r} is no model in {storage.root}, and is looked for on the hub"
    return f"{told}{hint}" if hint else ""


def base_folder(
    base: str | None, parents: Mapping[str, Artifact | None], *stages: str
) -> str | None:
    """Where a training's starting weights are: a model of the workspace that `base` names, the
    folder or hub id that it is, or what one of these stages made."""
    for stage in (artifacts.BASE, *stages):
        parent = parents.get(stage)
        if parent is not None:
            return str(parent.path)
    return base
