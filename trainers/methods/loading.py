"""A model from the folder of an adapter: its base, found and known by its hashes, with the adapter
in its weights, or beside them where it cannot be a part of them.

    FOLDER/adapter.json                what adapter it is, and of which base
    FOLDER/config.json                 of the whole model, with its labels
    FOLDER/adapter_config.json         PEFT's, and
    FOLDER/adapter_model.safetensors   its weights
"""

import contextlib
import json
import tempfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_model

from cluster.errors import UserError
from cluster.store import bases
from cluster.store.artifacts import MANIFEST
from cluster.store.bases import GGUF, file_hash
from cluster.store.storage import Storage
from trainers.methods import bottleneck, virtual_tokens
from trainers.methods.config import Bottleneck, VirtualTokens, refuse_further
from trainers.methods.record import AdapterRecord, is_adapter
from trainers.models.lean_imports import transformers

WEIGHTS = "adapter_model.safetensors"
CONTENT = ("*.safetensors", "*.bin", "config.json", "adapter.json")
"""What of a base's folder its weights depend on."""


def files_of(place: Path) -> dict[str, str]:
    """The sha256 of a GGUF file, or of what the weights in a folder depend on, by name."""
    if place.suffix == GGUF:  # what it is converted to differs by the version of Transformers
        return {place.name: file_hash(place)}
    names = {path.relative_to(place).as_posix() for glob in CONTENT for path in place.glob(glob)}
    known = {name: file["sha256"] for name, file in _manifest(place).get("files", {}).items()}
    storage = Storage(str(place.absolute()))
    return {name: known.get(name) or storage.sha256(name) for name in sorted(names)}


def model_id(place: Path) -> str | None:
    """Of a base that is a model of a workspace."""
    found: str | None = _manifest(place).get("id")
    return found


def _manifest(place: Path) -> dict[str, Any]:
    path = place / MANIFEST
    document: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    return document


def revision_of(place: Path) -> str | None:
    """The commit of a folder in the hub's cache."""
    return place.name if place.parent.name == "snapshots" else None


def place_of(base: str, files: Collection[str] = (), revision: str | None = None) -> Path | None:
    """The folder or the GGUF file of a base on this machine, by its lasting name; of a hub id the
    folder in the hub's cache, with these files of this commit or with those that were read before.
    None where it is not there. Raises UserError."""
    place = bases.place_of(base)
    is_hub_id = not Path(base).is_absolute() and ":" not in base
    if place is not None or not is_hub_id:
        return place
    from huggingface_hub import snapshot_download

    try:
        wanted = [*files, "*.json", "*.txt"]
        folder = snapshot_download(
            base, revision=revision, allow_patterns=wanted, local_files_only=not files
        )
    except (OSError, ValueError) as error:
        raise UserError(f"base: {base!r} is no folder, and cannot be had: {error}") from error
    return Path(folder)


def base_of(folder: Path) -> Path:
    """The folder with the base of an adapter: the model beside it in its workspace, or what its
    lasting name says. Raises UserError where there is none, or another one."""
    record = AdapterRecord.read(folder)
    beside = folder.parent / (record.base_model or "").partition("/")[2]
    is_beside = bool(record.base_model) and beside.is_dir()
    place = beside if is_beside else place_of(record.base, record.base_files, record.base_revision)
    if place is None:
        raise UserError(
            f"{folder} is an adapter of {record.base_model or record.base}, which is not there; "
            f"copy that {'model beside it' if record.base_model else 'there'}"
        )
    for name, known in record.base_files.items():
        file = place if place.suffix == GGUF else place / name
        if not file.is_file() or file_hash(file.absolute()) != known:
            raise UserError(
                f"{folder} is an adapter of another base: {name} in {file.parent} has other bytes "
                "than in the base that it was trained on; copy that there"
            )
    return bases.as_folder(place)


def load(folder: Path, head: str, dtype: torch.dtype = torch.float32) -> Any:
    """The whole model in a folder, of a class of Transformers, for inference. Raises UserError."""
    kind = getattr(transformers, head)
    if not is_adapter(folder):
        return kind.from_pretrained(folder, dtype=dtype)
    record = AdapterRecord.read(folder)
    adapter = record.adapter
    with plain_base(folder, head) as model:
        if isinstance(adapter, Bottleneck):
            bottleneck.attach(model, adapter.size, record.trained_whole)
            _fill(model, load_file(folder / WEIGHTS), folder)
            return model.to(dtype)
        from peft import PeftModel  # which an endpoint of a whole model need not wait for

        peft = PeftModel.from_pretrained(model, str(folder))
        if adapter.merges:
            model = peft.merge_and_unload()
        elif isinstance(adapter, VirtualTokens):
            virtual_tokens.attach(model, peft)
    model.name_or_path = str(folder)
    return model.to(dtype)


def _fill(model: Any, weights: Mapping[str, torch.Tensor], folder: Path) -> None:
    unknown = model.load_state_dict(weights, strict=False).unexpected_keys
    if unknown:
        raise UserError(f"{folder}: {WEIGHTS} is of another model: {unknown[0]} is not in it")


@contextlib.contextmanager
def plain_base(folder: Path, head: str) -> Iterator[Any]:
    """The base of an adapter in fp32, as what the adapter was put into; its head is the
    adapter's."""
    config = transformers.AutoConfig.from_pretrained(folder)
    with whole(str(base_of(folder))) as base:
        yield getattr(transformers, head).from_pretrained(
            base, config=config, dtype=torch.float32, ignore_mismatched_sizes=True
        )


@contextlib.contextmanager
def whole(source: str) -> Iterator[str]:
    """The folder of a whole model: the source itself, or where that is an adapter a temporary one
    with the adapter in its base's weights. Raises UserError for an adapter that cannot be."""
    if not is_adapter(source):
        yield source
        return
    record = AdapterRecord.read(Path(source))
    refuse_further(source, record.method)
    with tempfile.TemporaryDirectory(prefix="raymill-") as temporary:
        model = load(Path(source), record.architecture)
        # Transformers' own `save_pretrained` writes nothing where this is not rank 0.
        model.config.save_pretrained(temporary)
        save_model(model, f"{temporary}/model.safetensors", metadata={"format": "pt"})
        yield temporary
