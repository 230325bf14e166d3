"""Sources and workspace in an object store: the corpus is that on a disk, byte for byte, and a
causal model is trained there by two workers, with its journal."""

import json
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow.fs as pafs
import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.reviews import reviews
from tests.s3 import S3Server, s3_server  # noqa: F401  the fixture

CACHE_BYTES = 500_000
RECIPE = """\
name: stored
cluster: {{cache_gb: 0.0005}}
corpora:
  sources:
    reviews: {{path: "{data}/reviews-*.jsonl"}}
    labelled: {{path: "{data}/labelled.jsonl", label_column: label}}
  deduplicate: {{similarity: 0.4}}
  split: {{validation: 0.2, test: 0.2}}
  validation: 0.05
  tokenizer: {{vocabulary_size: 500}}
  sequence_length: 64
  shard_megabytes: 0.03
pretrain:
  objective: causal_lm
  model: {{architecture: llama, hidden_size: 32, layers: 1, heads: 2}}
  batch_size: 16
  epochs: 2
  learning_rate: 5e-3
  workers: 2
  zero: {{stage: 3}}
"""


@pytest.fixture
def bucket(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:  # noqa: F811
    """A bucket that plain `s3://` URIs mean, as for a user of MinIO and the like."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{s3_server.endpoint}")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))  # the cache of what was fetched
    return urlsplit(s3_server.workspace()).netloc


@pytest.fixture
def data(tmp_path: Path) -> Path:
    texts = [line for line in dict.fromkeys(reviews()) if len(line) > 30][:700]
    files = {"reviews-1": texts[:300], "reviews-2": texts[250:550], "labelled": texts[500:]}
    folder = tmp_path / "data"
    folder.mkdir()
    for name, found in files.items():
        rows = [{"text": text, "label": "ab"[len(text) % 2]} for text in found]
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    return folder


def test_a_corpus_in_an_object_store_is_that_on_a_disk(raymill, bucket, data, tmp_path):
    s3, _ = pafs.FileSystem.from_uri(f"s3://{bucket}")
    pafs.copy_files(str(data), f"{bucket}/data", destination_filesystem=s3)
    workspaces = {"disk": str(tmp_path / "disk"), "store": f"s3://{bucket}/mill"}
    sources = {"disk": str(data), "store": f"s3://{bucket}/data"}
    artifacts = {}
    for place, workspace in workspaces.items():
        recipe = tmp_path / f"{place}.yaml"
        recipe.write_text(RECIPE.format(data=sources[place]), "utf-8")
        outcome = raymill("shard", str(recipe), "--workspace", workspace)
        assert outcome.status == 0, outcome.said
        artifacts[place] = outcome.answer["stages"][-1]["artifact"]
    on_disk, in_store = tmp_path / "disk" / artifacts["disk"], f"{bucket}/mill/{artifacts['store']}"
    names = {str(path.relative_to(on_disk)) for path in on_disk.rglob("*") if path.is_file()}
    infos = s3.get_file_info(pafs.FileSelector(in_store, recursive=True))
    stored = {info.path[len(in_store) + 1 :] for info in infos if info.is_file}
    assert stored == names
    assert {"train/00000.arrow", "train/00001.arrow", "tokenizer/tokenizer.json"} <= names
    for name in names - {"manifest.json", "report.html"}:  # which name the artifact
        with s3.open_input_file(f"{in_store}/{name}") as stream:
            assert stream.read() == (on_disk / name).read_bytes(), name

    cache = tmp_path / "home" / ".cache" / "raymill"
    fetched = [path.stat().st_size for path in (cache / "files").iterdir()]
    assert fetched, "tasks fetch single files"
    assert sum(fetched) <= CACHE_BYTES
    folders = {path.name for path in cache.glob("*/*") if path.parent.name not in ("files", "runs")}
    assert folders <= {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
                       "train.arrow", "validation.arrow", "test.arrow", "labels.json",
                       "manifest.json", "report.html"}  # fmt: skip

    trained = raymill("pretrain", str(tmp_path / "store.yaml"), "--workspace", workspaces["store"])
    found = [stage["status"] for stage in trained.answer["stages"]]
    assert found == ["skipped", "skipped", "done"], trained.said
    infos = s3.get_file_info(pafs.FileSelector(f"{bucket}/mill", recursive=True))
    left = {info.path.split("/")[2] for info in infos if info.is_file}
    assert left == {"corpus", "examples", "model", "runs", "tensorboard"}, "nothing half made"
    told = raymill("status", "stored", "--workspace", workspaces["store"], "--html").answer
    stage = trained.answer["stages"][-1]
    assert told["journals"]["pretrain"]["last"]["step"] == stage["metrics"]["steps"]
    with s3.open_input_file(told["reports"]["run"].removeprefix("s3://")) as page:
        assert b"<svg" in page.read()
    assert 1 < stage["metrics"]["perplexity"] < 400, "better than chance over the vocabulary of 500"
    place, folder = f"{bucket}/mill/{stage['artifact']}", tmp_path / "model"
    folder.mkdir()
    pafs.copy_files(place, str(folder), source_filesystem=s3)
    model = AutoModelForCausalLM.from_pretrained(folder)
    ids = AutoTokenizer.from_pretrained(folder)("北京", return_tensors="pt")
    assert model(**ids).logits.shape[-1] == model.config.vocab_size
