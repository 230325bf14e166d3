"""Which model of the workspace a recipe's `base` names: so trainings chain.

A `base` is a folder or a GGUF file, which may be in an installed package (`package:NAME/PATH`); a
model of the workspace (`model/...`, or the name of the recipe that made it); or a hub id, in this
order.
"""

import functools
import json
import re
from collections.abc import Mapping
from pathlib import Path

from cluster.errors import UserError
from cluster.lazy_import import lazy_import
from cluster.recipe.loading import shipped
from cluster.recipe.section import nearest
from cluster.store import artifacts
from cluster.store.artifacts import Artifact
from cluster.store.lookup import lookup
from cluster.store.packages import package_folder
from cluster.store.storage import Storage

PACKAGE, GGUF = "package:", ".gguf"
"""What begins the name of a base in a package, and ends that of a GGUF file."""
NEAR = 0.8
"""How alike names are, by difflib, of which one is told in place of the other. Short names of the
hub, such as bert-base-chinese, resemble those of recipes."""


def base_model(storage: Storage, base: str | None, key: str, recipe: str) -> Artifact | None:
    """The model that `base` names, the newest where a recipe made several; None if it is a folder
    or hub id. `key` is the recipe's key that says so. Raises UserError for an id that is not there,
    and for a shipped recipe that made none yet."""
    if base is None or is_of_files(base):
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
    if not made and base in shipped():
        raise UserError(
            f"{key}: {base!r} has made no model in {storage.root} yet; run `raymill run {base}` in "
            "the same workspace before"
        )
    return made[-1] if made else None


def taken_for_hub_id(storage: Storage, base: str | None) -> str:
    """What to tell of a `base` that may be meant for a recipe's name, and that no model of the
    workspace has; else nothing."""
    if base is None or "/" in base or is_of_files(base):
        return ""
    names = {model.manifest.recipe for model in artifacts.listed(storage, "model")}
    if base in names:
        return ""
    told = f"{base!r} is no model in {storage.root}, and is looked for on the hub"
    return f"{told}{nearest(base, names, NEAR)}"


def conversion(base: str | None) -> str:
    """What to tell of a `base` that must be converted before it is used; nothing once this machine
    has it."""
    if base is None or not base.endswith(GGUF):
        return ""
    folder: Path = lazy_import("trainers.models.gguf:folder_of")(base_path(base).absolute())
    if folder.is_dir():
        return ""
    return f"{base} becomes a Hugging Face folder, once on each node, which takes minutes"


def is_of_files(base: str) -> bool:
    """Whether it names a folder or a file, be these there or not where only they can be meant."""
    named = base.startswith(PACKAGE) or base.endswith(GGUF)
    return named or Path(base).expanduser().is_dir()


def base_path(base: str) -> Path:
    """The folder or the GGUF file that a base would be on this machine, if it is one. Raises
    UserError for a package that is not installed."""
    if not base.startswith(PACKAGE):
        return Path(base).expanduser()
    package, _, inside = base.removeprefix(PACKAGE).partition("/")
    folder = package_folder(package)
    if folder is None:
        raise UserError(
            f"{base!r}: the package {package!r} is not installed; pip install it on every node "
            "(its files are found by the name that Python imports)"
        )
    return folder / inside


def file_hash(file: Path) -> str:
    """The sha256 of a file, which is read once while it stays as it is."""
    stat = file.stat()
    return _hash(file, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=8)
def _hash(file: Path, size_bytes: int, mtime_ns: int) -> str:
    return Storage(str(file.parent.absolute())).sha256(file.name)


def base_folder(
    base: str | None, parents: Mapping[str, Artifact | None], *stages: str
) -> str | None:
    """Where a training's starting weights are: a model of the workspace that `base` names, the
    folder or hub id that it is, the folder that its GGUF file is converted to, or what one of these
    stages made."""
    for stage in (artifacts.BASE, *stages):
        parent = parents.get(stage)
        if parent is not None:
            return str(parent.path)
    if base is None or not is_of_files(base):
        return base
    return str(as_folder(base_path(base)))


def as_folder(path: Path) -> Path:
    """A folder itself; of a GGUF file the folder that it is converted to, once a node."""
    if path.suffix != GGUF:
        return path
    folder: Path = lazy_import("trainers.models.gguf:converted")(path.absolute())
    return folder


def lasting_name(base: str | None, folder: str, storage: Storage) -> str:
    """By what another machine finds the weights that a training began with: `base` is the recipe's,
    `folder` where they were here, or a hub id, and `storage` the workspace."""
    if base is not None and is_of_files(base):
        return base if base.startswith(PACKAGE) else str(base_path(base).absolute())
    if Path(folder).is_dir() and not storage.is_local:  # a copy in the cache of this node
        document = json.loads((Path(folder) / artifacts.MANIFEST).read_text("utf-8"))
        # Keys in a URI are not handed on: where it is read there are others.
        return re.sub("://[^/@]*@", "://", f"{storage.root}/{document['id']}")
    return folder


def place_of(name: str) -> Path | None:
    """The folder or the GGUF file of a base on this machine, by its lasting name; None where it is
    not there, or the name is a hub id. Raises UserError for a package that is not installed."""
    if "://" in name:
        root, kind, own = name.rsplit("/", 2)
        model = artifacts.find(Storage.at(root, key="base"), f"{kind}/{own}")
        return None if model is None else model.path
    path = base_path(name)
    return path if path.exists() else None
