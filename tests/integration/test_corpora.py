"""Corpora on the cluster: near duplicates and evaluation texts go, and an epoch has the tokens that
the weights give; on a disk or in an object store, by one task at a time or two, the same bytes.
In the store, two workers then train a causal model, with its journal.
"""

import json
import random
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pyarrow.fs as pafs
import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.reviews import reviews
from tests.s3 import S3Server, s3_server  # noqa: F401  the fixture
from trainers.corpora.cleaning.config import Clean
from trainers.corpora.cleaning.documents import text_key
from trainers.corpora.cleaning.rules import normalize
from trainers.corpora.config import Split
from trainers.corpora.examples.splits import SHARES, STRENGTH, Rows, split

CACHE_BYTES = 500_000
RECIPE = """\
name: copies
cluster: {{cache_gb: 0.0005}}
corpora:
  sources:
    reviews: {{path: "{data}/reviews-*.jsonl", weight: 3, validation: 0.4}}
    copies: {{path: "{data}/copies.jsonl"}}
    quotes: {{path: "{data}/quotes.jsonl"}}
    labelled: {{path: "{data}/labelled.jsonl", columns: {{label: label}}, weight: 1}}
  tokens: 20_000
  deduplicate: {{similarity: 0.4}}
  decontaminate: {{files: ["{data}/clue.json"]}}
  split: {{validation: 0.2, test: 0.2}}
  validation: 0.05
  tokenizer: {{vocabulary_size: 500}}
  sequence_length: 64
  shard_megabytes: 0.03
pretrain:
  objective: causal_lm
  model: {{architecture: llama, hidden_size: 32, layers: 1, heads: 2}}
  batch_size: 16
  epochs: 4
  learning_rate: 5e-3
  workers: 2
  zero: {{stage: 3}}
"""


def edited(text, drawn):
    """A tenth of the characters replaced."""
    characters = list(text)
    for place in drawn.sample(range(len(text)), len(text) // 10):
        characters[place] = drawn.choice("天地玄黄宇宙洪荒")
    return "".join(characters)


def label(text):
    return "ab"[len(text) % 2]


@pytest.fixture
def bucket(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:  # noqa: F811
    """A bucket that plain `s3://` URIs mean, as for a user of MinIO and the like."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{s3_server.endpoint}")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))  # the cache of what was fetched
    return urlsplit(s3_server.workspace()).netloc


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


@pytest.fixture
def held_out_count(data):
    """Real reviews in two files, ten of which are in an evaluation set; edited copies of some of
    them, of those ten, and of held-out labelled ones."""
    drawn, shares = random.Random(17), Split(validation=0.2, test=0.2)
    texts = [normalize(line, Clean()) for line in dict.fromkeys(reviews()) if len(line) > 40][:930]
    labelled = sorted(texts[600:900], key=text_key)
    places = np.arange(len(labelled))
    rows_of_labels = Rows(
        np.array(list(map(text_key, labelled)), np.uint64),
        np.full(len(labelled), STRENGTH.index(SHARES), np.int8),
        places,
        np.array([label(text) == "b" for text in labelled], np.int32),
        places + 1,
    )
    fates = split(rows_of_labels, shares, 17).tolist()
    held_out = [text for text, fate in zip(labelled, fates, strict=True) if fate]
    files = {
        "reviews-1": texts[:300],
        "reviews-2": texts[300:600],
        "copies": [edited(text, drawn) for text in texts[:100] + texts[200:210] + held_out],
        "quotes": [f"有人说：{text}你怎么看？" for text in texts[200:210] + held_out[:20]],
        "labelled": texts[600:900],
    }
    for name, found in files.items():
        rows = [{"text": text, "label": label(text)} for text in found]
        (data / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    alike = texts[900:] + [edited(text, drawn) for text in texts[900:]]
    clue = {"content": texts[200:210], "question": alike, "answer": 1}
    (data / "clue.json").write_text(json.dumps(clue), "utf-8")
    return len(held_out)


def test_a_corpus_in_an_object_store_by_two_tasks_is_that_on_a_disk_by_one(
    raymill, raymill_at_head, bucket, data, held_out_count, tmp_path
):
    s3, _ = pafs.FileSystem.from_uri(f"s3://{bucket}")
    pafs.copy_files(str(data), f"{bucket}/data", destination_filesystem=s3)
    sources = {"disk": str(data), "store": f"s3://{bucket}/data"}
    workspaces = {"disk": str(tmp_path / "disk"), "store": f"s3://{bucket}/mill"}
    stages = {}
    commands = {"disk": raymill_at_head, "store": raymill}
    for tasks, (place, workspace) in enumerate(workspaces.items(), 1):
        recipe = tmp_path / f"{place}.yaml"
        recipe.write_text(RECIPE.format(data=sources[place]), "utf-8")
        options = ("--workspace", workspace, "--set", f"corpora.concurrency={tasks}")
        outcome = commands[place]("shard", str(recipe), *options)
        assert outcome.status == 0, outcome.stderr
        stages[place] = outcome.answer["stages"][-1]
    on_disk = tmp_path / "disk" / stages["disk"]["artifact"]
    assert_the_same(s3, on_disk, f"{bucket}/mill/{stages['store']['artifact']}")
    assert_what_was_dropped(stages["disk"]["metrics"]["sources"], held_out_count)
    report = json.loads((on_disk / "report.json").read_text("utf-8"))["near_duplicates"]
    assert 0 < report["clusters"] <= report["documents"], "not those of evaluation texts alone"
    assert_what_was_fetched(tmp_path / "home" / ".cache" / "raymill")
    assert_a_model_is_trained(raymill, s3, bucket, tmp_path)


def assert_the_same(s3, on_disk, in_store):
    names = {str(path.relative_to(on_disk)) for path in on_disk.rglob("*") if path.is_file()}
    infos = s3.get_file_info(pafs.FileSelector(in_store, recursive=True))
    stored = {info.path[len(in_store) + 1 :] for info in infos if info.is_file}
    assert stored == names
    assert {"train/00000.arrow", "train/00001.arrow", "tokenizer/tokenizer.json"} <= names
    for name in names - {"manifest.json", "report.html"}:  # which name the artifact
        with s3.open_input_file(f"{in_store}/{name}") as stream:
            assert stream.read() == (on_disk / name).read_bytes(), name


def assert_what_was_dropped(found, held_out_count):
    dropped = found["copies"]["dropped"]
    assert 95 <= dropped["near duplicate"] <= 105
    like_held_out = dropped["evaluation text"] + dropped["passage of an evaluation text"]
    assert like_held_out >= 0.95 * (10 + held_out_count)
    assert found["quotes"]["dropped"]["passage of an evaluation text"] == 30
    assert found["reviews"]["dropped"]["evaluation text"] == 10
    assert found["reviews"]["kept"] >= 580
    # As the weights say. Documents are drawn, and of the labelled ones only some 36.
    for name, tokens, error in (("reviews", 15_000, 0.12), ("labelled", 5_000, 0.6)):
        assert found[name]["train_tokens"] == pytest.approx(tokens, rel=error)


def assert_what_was_fetched(cache):
    fetched = [path.stat().st_size for path in (cache / "files").iterdir()]
    assert fetched, "tasks fetch single files"
    assert sum(fetched) <= CACHE_BYTES
    folders = {path.name for path in cache.glob("*/*") if path.parent.name not in ("files", "runs")}
    assert folders <= {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
                       "train.arrow", "validation.arrow", "test.arrow", "labels.json",
                       "manifest.json", "report.html"}  # fmt: skip


def assert_a_model_is_trained(raymill, s3, bucket, tmp_path):
    workspace = f"s3://{bucket}/mill"
    trained = raymill("pretrain", str(tmp_path / "store.yaml"), "--workspace", workspace)
    found = [stage["status"] for stage in trained.answer["stages"]]
    assert found == ["skipped", "skipped", "done"], trained.stderr
    infos = s3.get_file_info(pafs.FileSelector(f"{bucket}/mill", recursive=True))
    left = {info.path.split("/")[2] for info in infos if info.is_file}
    assert left == {"corpus", "examples", "model", "runs", "tensorboard"}, "nothing half made"
    told = raymill("status", "copies", "--workspace", workspace, "--html").answer
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
