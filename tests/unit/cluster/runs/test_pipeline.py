"""Changing one key redoes exactly what depends on it."""

import dataclasses
from pathlib import Path

import pytest

from cluster.errors import RaymillError, UserError
from cluster.recipe.loading import load, warnings
from cluster.recipe.section import Recipe
from cluster.runs import pipeline, records
from cluster.runs.pipeline import Planned, Stage
from cluster.store import artifacts
from cluster.store.storage import Storage
from tests.fakes import EmptyStorage, Screen, published
from trainers.corpora.reading.sources import content_hash

RECIPE = """\
name: demo
corpora:
  sources:
    news: {path: news.txt}
    reviews: {path: reviews.txt, label: good}
pretrain: {model: {}, batch_size: 8, workers: 2}
finetune: {labels: [bad, good]}
tune: {space: {finetune.dropout: {choice: [0.0, 0.1]}}}
serve: {gate: {accuracy: 0.8}}
"""
PROMOTED = {"promote"}
EVALUATED = {"evaluate", *PROMOTED}
FINETUNED = {"finetune", *EVALUATED}
TUNED = {"tune", *FINETUNED}
PRETRAINED = {"pretrain", *TUNED}
SHARDED = {"shard", *PRETRAINED}
ALL = {"examples", *SHARDED}
NOTHING: set[str] = set()
SHARDED_IN_ORDER = ["shard", "pretrain", "tune", "finetune", "evaluate", "promote"]


@pytest.fixture(autouse=True)
def recipe_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    (tmp_path / "news.txt").write_text("one\n")
    (tmp_path / "reviews.txt").write_text("two\n")
    content_hash.cache_clear()
    return tmp_path


def planned(*overrides: str, storage: Storage | None = None) -> list[Planned]:
    return pipeline.plan(load("recipe.yaml", overrides), storage or EmptyStorage())  # type: ignore


def ids(items: list[Planned]) -> dict[str, str]:
    return {item.stage.name: item.artifact_id for item in items}


@pytest.mark.parametrize(
    ("override", "redone"),
    [
        ("seed=8", ALL),
        ("corpora.clean.min_characters=3", ALL),
        ("corpora.sources.news.repeat=2", SHARDED),
        ("corpora.sources.more.path=news.txt", SHARDED),
        ("corpora.split.test=0.2", ALL),
        ("corpora.tokenizer.vocabulary_size=9000", SHARDED),
        ("corpora.sequence_length=64", SHARDED),
        ("corpora.validation=0.1", SHARDED),
        ("pretrain.learning_rate=5e-4", PRETRAINED),
        ("pretrain.optimizer=lion", PRETRAINED),
        ("pretrain.deepspeed={zero_optimization: {overlap_comm: false}}", PRETRAINED),
        ("pretrain.model.hidden_size=128", PRETRAINED),
        ("pretrain.model.config={rope_theta: 5}", PRETRAINED),
        ("corpora.balance=upsample", ALL),
        ("corpora.sources.reviews.split=test", ALL),
        ("finetune.labels=[bad, good, fair]", TUNED),
        ("finetune.learning_rate=5e-4", TUNED),
        ("finetune.max_length=64", TUNED),
        ("tune.trials=4", TUNED),
        ("tune.space={finetune.dropout: {choice: [0.1, 0.0]}}", TUNED),
        ("finetune.evaluation.seeds=3", EVALUATED),
        ("finetune.evaluation.ngram=false", EVALUATED),
        ("serve.gate={accuracy: 0.9}", PROMOTED),
        # How a stage runs is no part of what it makes.
        ("pretrain.workers=1", NOTHING),
        ("pretrain.micro_batch_size=4", NOTHING),
        ("pretrain.activation_checkpointing=true", NOTHING),
        ("pretrain.zero.stage=1", NOTHING),
        ("pretrain.zero.offload_optimizer=cpu", NOTHING),
        ("pretrain.checkpoint_minutes=1", NOTHING),
        ("finetune.cpus_per_worker=2", NOTHING),
        ("corpora.concurrency=1", NOTHING),
        ("tune.concurrent=1", NOTHING),
        ("serve.port=9000", NOTHING),
        ("cluster.cpus=2", NOTHING),
        ("workspace=elsewhere", NOTHING),
        # A default that is written out is the same recipe.
        ("pretrain.model.hidden_size=256", NOTHING),
        ("seed=17", NOTHING),
    ],
)
def test_a_changed_key_redoes_what_depends_on_it(override: str, redone: set[str]) -> None:
    before, after = ids(planned()), ids(planned(override))
    assert list(before) == ["examples", *SHARDED_IN_ORDER]
    assert {stage for stage in before if before[stage] != after[stage]} == redone


def test_how_long_answers_may_be_redoes_the_evaluation_alone(recipe_folder: Path) -> None:
    (recipe_folder / "chats.jsonl").write_text('{"prompt": "Who?", "completion": "I."}\n')
    sections = ("pretrain=null", "tune=null", "serve=null")
    rows = "corpora.sources={rows: {path: chats.jsonl}}"
    chat = (*sections, rows, "finetune={task: chat, base: some/model}")
    before, after = ids(planned(*chat)), ids(planned(*chat, "finetune.most_new_tokens=8"))
    assert {stage for stage in before if before[stage] != after[stage]} == {"evaluate"}


@pytest.mark.parametrize(("name", "redone"), [("news.txt", SHARDED), ("reviews.txt", ALL)])
def test_a_changed_source_file_redoes_what_reads_it(
    recipe_folder: Path, name: str, redone: set[str]
) -> None:
    before = ids(planned())
    (recipe_folder / name).write_text("three\n")
    content_hash.cache_clear()  # it lasts for a process
    after = ids(planned())
    assert {stage for stage in before if before[stage] != after[stage]} == redone


def test_a_renamed_recipe_is_the_same_work() -> None:
    for item, renamed in zip(planned(), planned("name=other"), strict=True):
        assert renamed.artifact_id == item.artifact_id.replace("demo", "other")


@pytest.mark.parametrize(
    ("overrides", "stages"),
    [
        ((), ["examples", *SHARDED_IN_ORDER]),
        (("serve=null",), ["examples", *SHARDED_IN_ORDER[:-1]]),
        (("tune=null",), ["examples", "shard", "pretrain", "finetune", "evaluate", "promote"]),
        (("serve=null", "tune=null", "finetune=null"), ["examples", "shard", "pretrain"]),
        (("serve=null", "tune=null", "finetune=null", "pretrain=null"), ["examples", "shard"]),
        (
            ("serve=null", "tune=null", "finetune=null", "corpora.sources.reviews.label=null"),
            ["shard", "pretrain"],
        ),
        (
            ("pretrain=null", "finetune.base=some/model"),
            ["examples", "tune", "finetune", "evaluate", "promote"],
        ),
    ],
)
def test_a_recipe_has_the_stages_of_its_sections(
    overrides: tuple[str, ...], stages: list[str]
) -> None:
    found = planned(*overrides)
    assert list(ids(found)) == stages
    for item in found:
        assert item.artifact_id.startswith(f"{item.stage.kind}/demo-{item.stage.name}-")
        assert set(item.parents) == set(item.stage.parents) & set(stages)


@pytest.mark.parametrize(
    ("since", "until", "expected"),
    [
        (None, None, ["examples", *SHARDED_IN_ORDER]),
        (None, "pretrain", ["examples", "shard", "pretrain"]),
        ("examples", "examples", ["examples"]),
    ],
)
def test_stages_are_chosen(since: str | None, until: str | None, expected: list[str]) -> None:
    chosen, serves = pipeline.select(planned(), load("recipe.yaml"), since, until)
    assert list(ids(chosen)) == expected
    assert serves == (until is None)


def test_a_run_begins_at_a_stage_whose_inputs_are_there(tmp_path: Path) -> None:
    storage = Storage.at(str(tmp_path / "mill"))
    with pytest.raises(UserError, match="--from pretrain: stage examples was not run yet"):
        pipeline.select(planned(storage=storage), load("recipe.yaml"), since="pretrain")
    for stage in ("examples", "shard"):
        published(storage, ids(planned())[stage])
    chosen, _ = pipeline.select(
        planned(storage=storage), load("recipe.yaml"), since="pretrain", until="tune"
    )
    assert [(item.stage.name, item.done) for item in chosen] == [("pretrain", None), ("tune", None)]


@pytest.mark.parametrize("flag", ["since", "until"])
def test_an_unknown_stage_is_refused_with_those_there_are(flag: str) -> None:
    with pytest.raises(UserError, match=r"shards: this recipe's stages are examples, shard, "):
        pipeline.select(planned(), load("recipe.yaml"), **{flag: "shards"})


def test_serving_is_the_last_stage_where_a_recipe_has_it(tmp_path: Path) -> None:
    storage = Storage.at(str(tmp_path / "mill"))
    for artifact_id in ids(planned()).values():
        published(storage, artifact_id)
    whole, recipe = planned(storage=storage), load("recipe.yaml")
    assert pipeline.select(whole, recipe, since="serve") == ([], True)
    assert pipeline.select(whole, recipe, until="serve") == (whole, True)
    without = load("recipe.yaml", ["serve=null"])
    with pytest.raises(
        UserError, match="demo has no section serve, so there is no endpoint; its stages"
    ):
        pipeline.select(whole, without, until="serve")


def test_more_workers_than_cpus_are_refused_before_anything_runs() -> None:
    recipe = load("recipe.yaml")
    with pytest.raises(UserError, match=r"pretrain\.workers: needs 2 CPUs at once, .* has 1"):
        pipeline.refuse_what_cannot_fit(planned(), recipe, {"CPU": 1.0}, {})
    pipeline.refuse_what_cannot_fit(planned(), recipe, {"CPU": 2.0}, {})


def test_stages_that_fine_tune_need_its_workers(tmp_path: Path) -> None:
    storage = Storage.at(str(tmp_path / "mill"))
    recipe = load("recipe.yaml", ["finetune.cpus_per_worker=4"])
    found = [item for item in planned(storage=storage) if item.stage.name == "evaluate"]
    with pytest.raises(UserError, match=r"finetune\.workers: needs 4 CPUs at once"):
        pipeline.refuse_what_cannot_fit(found, recipe, {"CPU": 2.0}, {})


def test_what_endpoints_hold_is_not_waited_for(tmp_path: Path) -> None:
    recipe, endpoint = load("recipe.yaml", ["pretrain.workers=2"]), {"CPU": 1.0}
    pipeline.refuse_what_cannot_fit(planned(), recipe, {"CPU": 3.0}, endpoint)
    with pytest.raises(UserError, match=r"has 2, of which endpoints hold 1; .* delete an endpoint"):
        pipeline.refuse_what_cannot_fit(planned(), recipe, {"CPU": 2.0}, endpoint)
    alone = load("recipe.yaml", ["pretrain.workers=1"])
    shard = [item for item in planned() if item.stage.name == "shard"]
    with pytest.raises(UserError, match=r"^shard: needs 1 CPUs at once, .* endpoints hold 1"):
        pipeline.refuse_what_cannot_fit(shard, alone, {"CPU": 1.0}, endpoint)


def test_what_is_done_needs_no_resources(tmp_path: Path) -> None:
    storage = Storage.at(str(tmp_path / "mill"))
    published(storage, ids(planned())["pretrain"])
    found = planned(storage=storage)
    pipeline.refuse_what_cannot_fit(found, load("recipe.yaml"), {"CPU": 1.0}, {})


def two_stages(storage: Storage, second: str, resumes: bool = False) -> list[Planned]:
    """A first stage, and one that reads what it made."""

    def item(name: str, function: str, parents: dict[str, str]) -> Planned:
        function = f"tests.fakes:{function}"
        stage = Stage(name, "model", function, bool, tuple(parents), (), resumes=resumes)
        artifact_id = f"model/demo-{name}-00"
        return Planned(stage, artifact_id, parents, {}, artifacts.find(storage, artifact_id))

    first = item("first", "writing_stage", {})
    return [first, item("second", second, {"first": first.artifact_id})]


def run(
    storage: Storage, items: list[Planned], recipe: Recipe | None = None
) -> tuple[records.Run, Screen]:
    recipe = recipe or load("recipe.yaml")
    screen = Screen()
    with records.recorded(storage, recipe.name) as record:
        made = pipeline.run(recipe, storage, items, record, screen, {})
    assert list(made) == [item.stage.name for item in items]
    return record, screen


def test_missing_artifacts_are_made_and_those_there_are_skipped(tmp_path: Path) -> None:
    storage = Storage.at(str(tmp_path / "mill"))
    record, _ = run(storage, two_stages(storage, "writing_stage"))
    assert [stage.status for stage in record.stages] == ["done", "done"]
    made = artifacts.find(storage, "model/demo-second-00")
    assert made is not None
    assert made.manifest.parents == {"first": "model/demo-first-00"}
    assert (made.manifest.recipe, made.manifest.metrics) == ("demo", {"made": 1})
    record, screen = run(storage, two_stages(storage, "writing_stage"))
    assert [stage.status for stage in record.stages] == ["skipped", "skipped"]
    assert "second: already done, model/demo-second-00" in screen.err.getvalue()
    assert record.stages[1].metrics == {"made": 1}


def test_a_failed_stage_leaves_no_artifact_and_keeps_those_before_it(tmp_path: Path) -> None:
    storage = Storage.at(str(tmp_path / "mill"))
    with pytest.raises(RuntimeError, match="in the middle"):
        run(storage, two_stages(storage, "failing_stage"))
    assert storage.folders("model") == ["demo-first-00"]
    (record,) = records.listed(storage)
    assert [stage["status"] for stage in record["stages"]] == ["done", "failed"]


def test_an_input_that_vanished_is_told(tmp_path: Path) -> None:
    storage = Storage.at(str(tmp_path / "mill"))
    _, second = two_stages(storage, "writing_stage")
    with pytest.raises(RaymillError, match="second: its input model/demo-first-00 is gone"):
        run(storage, [dataclasses.replace(second)])


def test_work_of_other_software_is_begun_anew_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = Storage.at(str(tmp_path / "mill"))
    with pytest.raises(RuntimeError, match="in the middle"):
        run(storage, two_stages(storage, "failing_stage", resumes=True))
    assert storage.files("work/demo-second-00/draft") == {"made.txt": 4}
    monkeypatch.setattr(artifacts, "_software", lambda: {"ray": "9.9"})
    _, screen = run(storage, two_stages(storage, "writing_stage", resumes=True))
    assert "second: starts anew: a killed run left work of ray 2." in screen.err.getvalue()
    assert storage.folders("work") == []


CHAINED = """\
name: child
corpora: {sources: {reviews: {path: reviews.txt, label: good}}}
finetune: {base: parent}
"""


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    (tmp_path / "recipe.yaml").write_text(CHAINED)
    return Storage.at(str(tmp_path / "mill"))


def test_a_base_is_the_newest_model_of_a_recipe(storage: Storage) -> None:
    before = ids(planned(storage=storage))
    published(storage, "model/parent-pretrain-01")
    first = planned(storage=storage)
    published(storage, "model/parent-finetune-02")
    second = planned(storage=storage)
    parents = [[item.parents.get("base") for item in items] for items in (first, second)]
    assert parents[0] == [None, *["model/parent-pretrain-01"] * 2]
    assert parents[1] == [None, *["model/parent-finetune-02"] * 2]
    assert len({before["finetune"], ids(first)["finetune"], ids(second)["finetune"]}) == 3


def test_a_base_may_be_one_model(storage: Storage) -> None:
    published(storage, "model/parent-pretrain-01")
    published(storage, "model/parent-finetune-02")
    items = planned("finetune.base=model/parent-pretrain-01", storage=storage)
    assert items[-1].parents["base"] == "model/parent-pretrain-01"
    with pytest.raises(UserError, match=r"finetune\.base: model/nobody: no such model .* newest:"):
        planned("finetune.base=model/nobody", storage=storage)


def test_a_recipe_is_not_its_own_base(storage: Storage) -> None:
    published(storage, "model/child-finetune-01")
    with pytest.raises(UserError, match=r"'child' is this recipe itself.*model/child-finetune-01"):
        planned("finetune.base=child", storage=storage)


def test_a_base_that_may_be_meant_for_a_model_is_told(tmp_path: Path) -> None:
    """By a check, and by a run before it looks on the hub."""
    storage = Storage.at(str(tmp_path / "mill"))
    published(storage, "model/shop-sent-finetune-01")
    (stage,) = (one for one in pipeline.STAGES if one.name == "finetune")
    near = dataclasses.replace(stage, function="tests.fakes:writing_stage", trains=None)

    def told(base: str) -> list[str]:
        recipe = load("recipe.yaml", ["pretrain=null", f"finetune.base={base}"], storage.root)
        item = Planned(near, f"model/demo-finetune-{base.replace('/', '')}", {}, {}, None)
        _, screen = run(storage, [item], recipe)
        warned = [line for line in warnings(recipe) if line.startswith("finetune.base")]
        assert ("is looked for on the hub" in screen.err.getvalue()) == bool(warned)
        assert all(line in screen.err.getvalue() for line in warned)
        return warned

    assert told("shop-snt") == [
        f"finetune.base: 'shop-snt' is no model in {storage.root}, and is looked for on the hub; "
        "did you mean 'shop-sent'?"
    ]
    assert told("bert-base-chinese") == [
        f"finetune.base: 'bert-base-chinese' is no model in {storage.root}, and is looked for on "
        "the hub"
    ]
    for base in ("shop-sent", "some/shop-sent"):
        assert told(base) == []


def test_a_base_that_was_cut_is_refused(storage: Storage) -> None:
    base = published(storage, "model/parent-pretrain-01", {"model.safetensors": "whole"})
    planned("finetune.base=parent", storage=storage)
    (base.path / "model.safetensors").write_text("cut")
    with pytest.raises(UserError, match=r"01 is damaged: model\.safetensors has 3 bytes, should"):
        planned("finetune.base=parent", storage=storage)


def test_a_base_must_suit_the_task(storage: Storage) -> None:
    inputs = {"pretrain": {"objective": "causal_lm"}}
    published(storage, "model/parent-pretrain-01", inputs=inputs)
    with pytest.raises(UserError, match=r"pretrained by causal_lm; classify needs a model of mask"):
        planned(storage=storage)
