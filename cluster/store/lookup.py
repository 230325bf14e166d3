"""Which artifact a user means: by its id, by the path or URI of its folder, or by a recipe's name,
whose newest it then is. What was taken for a name is told in one line, by `taken`."""

import os
from pathlib import Path

from cluster.errors import UserError
from cluster.recipe.section import DEFAULT_WORKSPACE, nearest
from cluster.store import artifacts
from cluster.store.artifacts import MANIFEST, Artifact
from cluster.store.storage import Storage


def lookup(storage: Storage, kind: str, reference: str, stage: str | None = None) -> Artifact:
    """The artifact that a user means: an id, `NAME-FINGERPRINT`, or a recipe's name, whose newest
    it then is, of that stage if one is given.

    Raises UserError where there is none.
    """
    known = artifacts.listed(storage, kind)
    name = reference.removeprefix(f"{kind}/")
    exact = [artifact for artifact in known if artifact.id == f"{kind}/{name}"]
    named = [
        artifact
        for artifact in known
        if artifact.manifest.recipe == name and stage in (None, artifact.manifest.stage)
    ]
    if exact or named:
        return (exact or named)[-1]
    names = ", ".join(artifact.id for artifact in known[-5:]) or "none yet"
    raise UserError(f"{reference}: no such {kind} in {storage.root}; newest: {names}")


def workspace(given: str | None) -> Storage:
    """Of a verb that works on what was made before. Raises UserError where it is absent."""
    return Storage.at(given or DEFAULT_WORKSPACE, must_exist=True)


def placed(reference: str, given: str | None) -> tuple[Storage, str]:
    """The workspace to look in, and for what: the path or the URI of an artifact's folder names
    both. Raises UserError for a path of nothing, and for one in another workspace than `given`."""
    root, found = _split(reference)
    if given is None and root is not None:
        return Storage.at(root, must_exist=True), found
    is_path = reference.startswith(("/", ".", "~")) or reference.count("/") > 1
    if root is None and is_path:
        beside = Path(reference).expanduser().parent
        names = [path.name for path in beside.iterdir()] if beside.is_dir() else []
        hint = nearest(Path(reference).name, names)
        raise UserError(f"{reference}: there is no artifact in such a folder{hint}")
    storage = workspace(given)
    if root == storage.root:
        return storage, found
    if is_path:
        raise UserError(
            f"{reference}: is not in the workspace {storage.root}, which --workspace names; leave "
            f"that out, or name {root}"
        )
    return storage, reference


def _split(reference: str) -> tuple[str | None, str]:
    """Workspace and id of an artifact that is given by its folder; no workspace of what is none."""
    if "://" in reference:
        root, *kind_and_name = reference.rstrip("/").rsplit("/", 2)
        is_folder = len(kind_and_name) == 2 and not root.endswith("/")
        return (root, "/".join(kind_and_name)) if is_folder else (None, reference)
    folder = Path(os.path.abspath(os.path.expanduser(reference)))
    if not (folder / MANIFEST).is_file():
        return None, reference
    return str(folder.parent.parent), f"{folder.parent.name}/{folder.name}"


def taken(name: str, artifact: Artifact) -> str:
    """One line: the artifact that was taken for a recipe's name."""
    made = artifact.manifest.created[:16].replace("T", " ")
    return f"{name}: takes {artifact.id}, made {made} UTC"
