"""Odd input that is refused in words, or read as it was meant: each was wrong once."""

import json
from pathlib import Path

import pytest
import torch

from cluster.cli import main
from cluster.errors import GateRefused, RecipeError, UserError
from cluster.recipe.loading import load, override
from cluster.runs import pipeline, records
from cluster.store.lookup import lookup
from cluster.store.storage import Storage
from tests.fakes import TEXTS, published
from trainers.corpora.cleaning.config import Clean
from trainers.corpora.cleaning.documents import Counts, cleaned, text_key
from trainers.corpora.cleaning.rules import normalize
from trainers.corpora.config import Tokenizer
from trainers.corpora.reading.config import Source
from trainers.corpora.reading.readers import read
from trainers.corpora.reading.sources import content_hash, parts

R = """\
name: a
corpora:
  sources:
    News: {path: x.txt, label: y}
pretrain: {model: {hidden_size: 64, heads: 4}}
finetune: {}
tune:
  space:
    finetune.dropout: {uniform: [0.0, 0.3]}
serve: {gate: {accuracy: 0.8}}
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    Path("r.yaml").write_text(R)
    Path("x.txt").write_text("one\n")
    content_hash.cache_clear()


def docs(**s):
    source = Source(**s)
    return [d for p in parts(source, "corpora.sources.x") for d in read(source, p)]


def kept(**s):
    return list(cleaned(docs(**s), Clean(), Counts()))


def refused(old, new, *says):
    Path("r.yaml").write_text(R.replace(old, new, 1))
    with pytest.raises(RecipeError) as caught:
        load("r.yaml")
    for fragment in says:
        assert fragment in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("text", ["seed=[1", "seed={", "seed=a: b: c"])
def test_bad_yaml_in_set(text):
    with pytest.raises(RecipeError, match="--set"):
        load("r.yaml", [text])


def test_capital_source_name():
    refused("path: x", "paht: x", "r.yaml:4: corpora.sources.News.paht: unknown key")


def test_conflicts_are_not_echoed():
    assert len(refused("finetune: {}", "finetune: {base: b}").splitlines()) == 1


def test_tune_space_line():
    refused("[0.0, 0.3]", "[0.0, 1.3]", "r.yaml:9: tune.space.finetune.dropout: ")


def test_key_of_validators():
    refused("heads: 4", "heads: 5", "pretrain.model.heads: 5 does not divide")


@pytest.mark.parametrize("values", ["uniform", "log_uniform"])
def test_range_of_an_integer(values):
    new = f"finetune.batch_size: {{{values}: [16, 64]}}"
    Path("r.yaml").write_text(R.replace("finetune.dropout: {uniform: [0.0, 0.3]}", new))
    try:
        recipe = load("r.yaml")
    except RecipeError:
        return
    for values in recipe.tune.drawn(1):
        override(recipe, {"tune": None, **values})


def test_gate_of_no_metric():
    refused("accuracy: 0.8", "acuracy: 0.8", "serve.gate.acuracy", "did you mean 'accuracy'?")


def test_tune_of_no_metric():
    refused("tune:\n", "tune:\n  metric: acuracy\n", "tune.metric", "did you mean 'accuracy'?")


def test_jargon():
    assert "ClusterSection" not in refused("name: a", "name: a\ncluster: 2")


def test_missing_file_names_its_source():
    recipe = load("r.yaml", ["corpora.sources.News.path=gone"])
    with pytest.raises(UserError, match=r"corpora\.sources\.News\.path: no file"):
        pipeline.plan(recipe, Storage.at("mill"))


@pytest.mark.parametrize("path", ["", ".", "https://a.b/c.txt"])
def test_odd_paths(path):
    with pytest.raises(UserError):
        docs(path=path)


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.txt"])
def test_byte_order_mark(name):
    text = {"a.csv": "text,label\na,b\n", "a.jsonl": '{"text": "a"}\n', "a.txt": "a\n"}[name]
    Path(name).write_text("\ufeff" + text, encoding="utf-8")
    assert [normalize(d.text, Clean()) for d in docs(path=name)] == ["a"]


def test_parquet_text_that_is_not_utf8():
    import pyarrow as pa
    import pyarrow.parquet as pq

    broken = pa.array([b"fine", b"\xff\xfe"]).view(pa.binary()).view(pa.string())
    pq.write_table(pa.table({"text": broken}), "a.parquet")
    assert [document.text for document in docs(path="a.parquet")] == ["fine", None]


def test_csv_that_is_none():
    Path("a.csv").write_bytes(b'text,label\n"a\rb",c\rd,e\n')
    with pytest.raises(UserError, match=r"a\.csv:2: not CSV: "):
        kept(path="a.csv")


def test_how_often_pretraining_repeats_a_source_is_nothing_to_the_examples():
    def examples(repeat):
        recipe = load("r.yaml", [f"corpora.sources.{labelled}.repeat={repeat}"])
        (found, *_) = pipeline.plan(recipe, Storage.at("mill"))
        return found.artifact_id

    sources = load("r.yaml").corpora.sources
    labelled = next(name for name, source in sources.items() if source.is_labelled)
    assert examples(1) == examples(3)


def test_lone_surrogate():
    Path("a.jsonl").write_text('{"text": "\\ud800abc"}\n')
    (found,) = docs(path="a.jsonl")
    assert found.text is None or text_key(found.text)


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_no_label(name):
    Path("a.csv").write_text("text,label\nabc\n")
    Path("a.jsonl").write_text('{"text": "abc", "label": null}\n')
    with pytest.raises(UserError, match="label"):
        kept(path=name, columns={"label": "label"})


def test_long_csv_field():
    Path("a.csv").write_text("text\n" + "a" * 140_000 + "\n")
    assert len(docs(path="a.csv")) == 1


def test_undecodable_label():
    Path("a.csv").write_bytes(b"text,label\nabc,\xff\n")
    (found,) = docs(path="a.csv", columns={"label": "label"})
    assert found.text is None


@pytest.mark.parametrize("source", [{"dataset_split": "tset"}, {"dataset": "no"}])
def test_dataset_errors(source):
    import datasets

    Path("no").mkdir()
    saved = datasets.Dataset.from_list([{"text": "a"}])
    datasets.DatasetDict({"train": saved}).save_to_disk("ds")
    with pytest.raises(UserError):
        docs(**{"dataset": "ds", **source})


def test_unlabelled_class():
    import datasets

    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["bad", "good"])}
    )
    datasets.Dataset.from_list([{"text": "a", "label": -1}], features=features).save_to_disk("ds")
    with pytest.raises(UserError):
        kept(dataset="ds", columns={"label": "label"})


def test_relative_package():
    with pytest.raises(UserError):
        docs(package=".x", path="a.txt")


def test_newest_within_a_second():
    storage = Storage.at("mill")
    for name in ("ff", "00"):
        made = published(storage, f"model/demo-finetune-{name}")
    assert lookup(storage, "model", "demo") == made


def test_promote_means_the_task_model():
    from serving.rollout.promote import promote

    storage = Storage.at("mill")
    task = {"finetune": {"task": "classify"}}
    model = published(storage, "model/demo-finetune-00", inputs=task)
    published(
        storage,
        "evaluation/demo-evaluate-00",
        parents={"finetune": model.id},
        metrics={"test": {"accuracy": 0.9}},
    )
    published(storage, "model/demo-pretrain-ff")
    assert (
        promote(lookup(storage, "model", "demo", "finetune"), {}).manifest.metrics["model"]
        == model.id
    )


def test_runs_of_one_second():
    storage = Storage.at("mill")
    for _ in range(2):
        with records.recorded(storage, "demo"):
            pass
    assert len(records.listed(storage)) == 2


def test_content_of_a_local_base():
    def plan():
        overrides = ["pretrain=null", "finetune.base=base", "tune=null"]
        return [i.artifact_id for i in pipeline.plan(load("r.yaml", overrides), Storage.at("mill"))]

    Path("base").mkdir()
    Path("base/model.safetensors").write_text("1")
    before = plan()
    Path("base/model.safetensors").write_text("2")
    assert plan() != before


def test_cache_of_a_remote_folder_that_was_rewritten(tmp_path):
    storage = Storage.at(f"file://{tmp_path}/mill")
    for content in (b"1", b"2"):
        storage.delete("checkpoint/x/step-1")
        storage.write("checkpoint/x/step-1/w", content)
        assert (storage.local("checkpoint/x/step-1") / "w").read_bytes() == content


def test_causal_bases_are_causal():
    from transformers import AutoConfig, AutoModelForCausalLM

    from trainers.models.build import packed_inputs

    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "qwen2",
        vocab_size=50,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        intermediate_size=64,
    )
    model = AutoModelForCausalLM.from_config(config).eval()
    ids = torch.randint(5, 50, (1, 9))
    with torch.no_grad():
        packed = model(**packed_inputs(model, ids, torch.ones_like(ids))).logits
        torch.testing.assert_close(packed, model(input_ids=ids).logits)


def test_wrong_type_in_model_config():
    from trainers.corpora.tokens.tokenizer import train
    from trainers.models.build import from_shape
    from trainers.models.shape import Shape

    with pytest.raises(UserError, match=r"pretrain\.model\.config"):
        from_shape(Shape(config={"num_hidden_layers": "x"}), train(TEXTS, Tokenizer(), 64))


def test_a_trial_that_is_not_a_number():
    from tuning.winner import Trial, choose

    trials = [Trial(0, {}, "done", [float("nan")]), Trial(1, {}, "done", [0.9], loss=0.1)]
    assert choose(trials, "max").number == 1


def test_a_gate_and_nan():
    from serving.rollout.promote import refuse_worse
    from trainers.tasks.registry import TASKS

    with pytest.raises(GateRefused):
        refuse_worse({"accuracy": 0.8}, {"accuracy": float("nan")}, TASKS["classify"], "m")


def test_a_mistake_is_told_without_a_traceback(capfd):
    status = main.main(["check", "r.yaml", "--set", "seed=[1", "--json"])
    out, err = capfd.readouterr()
    assert status == 2
    assert "Traceback" not in err
    assert json.loads(out)["status"] == 2


def test_workers_of_finetune_inside_tune_is_operational():
    refused(
        "finetune.dropout: {uniform: [0.0, 0.3]}",
        "finetune.workers: {choice: [1, 2]}",
        "finetune.workers",
    )


def test_fewer_parameters_than_the_vocabulary_needs():
    refused(
        "{hidden_size: 64, heads: 4}",
        "{parameters: 1K}",
        "pretrain.model.parameters: no bert with a vocabulary of 8,000",
        "ask for more",
    )


def test_wordpiece_for_a_model_that_writes():
    refused(
        "pretrain: {model: {hidden_size: 64, heads: 4}}",
        "  tokenizer: {algorithm: wordpiece}\n"
        "pretrain: {objective: span_corruption, model: {architecture: t5}}",
        "corpora.tokenizer.algorithm: wordpiece drops spaces, which a model of span_corruption",
        "finetune.task: classify needs pretrain.objective: masked_lm or replaced_tokens",
    )


@pytest.mark.parametrize(
    ("workers", "says"),
    [
        ("two", "pretrain.workers: expected a whole number, found 'two'"),
        ("[1, 2]", "pretrain.workers: expected a whole number, found [1, 2]"),
        ("0", "pretrain.workers: must be greater than or equal to 1, found 0"),
        ("{min: 0, max: 2}", "pretrain.workers.min: must be greater than or equal to 1, found 0"),
        ("{min: 3, max: 2}", "pretrain.workers.min: 3 is over max = 2"),
        ("{min: 1}", "pretrain.workers.max: missing"),
        ("{mni: 1, max: 2}", "pretrain.workers.mni: unknown key (value 1); did you mean 'min'?"),
    ],
)
def test_workers_that_are_neither_a_number_nor_a_range(workers, says):
    said = refused("heads: 4}}", f"heads: 4}}, workers: {workers}}}", says)
    assert "|" not in said, "pydantic's tags are no keys"
