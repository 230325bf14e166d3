import contextlib
import json
import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.errors import UserError
from cluster.store import artifacts
from cluster.store.storage import Storage
from tests.fakes import published
from tests.tagging import Tag
from trainers.corpora.reading import sources
from trainers.scoring.batch import job
from trainers.scoring.batch.columns import RESCUED
from trainers.scoring.batch.job import (
    ScorePlan,
    _refuse_place,
    alone,
    input_schema,
    make_plan,
    plan_of,
    source_of,
)
from trainers.scoring.model import Model, model_of
from trainers.tasks.chat.spec import Chat
from trainers.tasks.classify.spec import Classify

CARD = {"raymill.json": json.dumps({"task": "classify"}), "model.safetensors": "weights"}


@pytest.fixture(autouse=True)
def _user_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in.jsonl").write_text('{"text": "a", "n": 1}\n{"text": "b"}\n')


def model(version: str = "0a") -> Model:
    storage = Storage.at("mill")
    model_id, inputs = f"model/demo-finetune-{version}", {"finetune": {"task": "classify"}}
    known = artifacts.find(storage, model_id)
    return model_of(known or published(storage, model_id, CARD, inputs=inputs))


def plan(
    of: Model | None = None, path: str = "in.jsonl", out: str = "out", **keys: Any
) -> ScorePlan:
    source = source_of(path, keys.pop("overrides", ()), Classify)
    given = {"format": "parquet", "prefix": "prediction_", "tell": lambda line: None, **keys}
    return make_plan(of or model(), source, out, **given)


def test_the_same_command_goes_on_with_the_plan_that_is_there() -> None:
    first = plan()
    again = plan()
    assert (again.parts, again.manifest) == (first.parts, None)
    assert again.job.schema == first.job.schema
    assert pickle.loads(pickle.dumps(again.job)) == again.job
    Path("out/_manifest.json").write_text('{"rows": 2}')
    assert plan().manifest == {"rows": 2}


def test_rows_of_two_models_or_sources_are_never_mixed() -> None:
    plan()
    with pytest.raises(UserError, match=r"has rows of model/demo-finetune-0a, not of .*0b; they"):
        plan(model("0b"))
    with pytest.raises(UserError, match="has rows in parquet; they are not mixed"):
        plan(format="jsonl")
    with pytest.raises(UserError, match="whose predictions begin with 'prediction_'"):
        plan(prefix="teacher_")
    Path("other.jsonl").write_text('{"text": "a"}\n')
    with pytest.raises(UserError, match="has rows of other files, or of these before they"):
        plan(path="other.jsonl")
    with pytest.raises(UserError, match=r"that were read by other keys: .*'tagged': False"):
        plan(overrides=["tagged=true"])
    with Path("in.jsonl").open("a") as stream:
        stream.write('{"text": "c"}\n')
    with pytest.raises(UserError, match="before they changed"):
        plan()


def test_a_folder_with_other_files_is_refused() -> None:
    Path("out").mkdir()
    Path("out/mine.txt").write_text("x")
    with pytest.raises(UserError, match=r"OUT: .*/out has other files, such as mine.txt"):
        plan()
    with pytest.raises(UserError, match=r"OUT: cannot make .*in.jsonl'"):
        plan(out="in.jsonl")


def test_what_a_killed_write_left_is_no_other_file() -> None:
    Path("out").mkdir()
    Path("out/_plan.json.1a2b3c4d.part").write_text('{"sch')
    assert plan().manifest is None
    assert plan().parts


@pytest.mark.parametrize(
    ("path", "out"),
    [
        ("data/**", "data/out"),
        ("data/**", "data"),
        ("./data/*.parquet", "data"),
        ("link/*/*.parquet", "data/out"),
        ("file://{here}/data/**", "data/out"),
        ("{here}/data/**/*.parquet", "link/out"),
    ],
)
def test_an_output_among_the_files_of_the_input_is_refused(path: str, out: str) -> None:
    Path("data/old").mkdir(parents=True)
    Path("link").symlink_to("data")
    Path(out).mkdir(exist_ok=True)
    files = Path("data/old/in.parquet"), Path("data/in.parquet")
    for file in files if out != "data" else ():
        pq.write_table(pa.table({"text": ["a"]}), file)
    source = source_of(path.format(here=Path.cwd()), (), Classify)
    with pytest.raises(UserError, match="would be among the files of IN"):
        _refuse_place(Storage.at(out), source, "parquet")
    _refuse_place(Storage.at("elsewhere"), source, "parquet")
    _refuse_place(Storage.at(f"{out}/_hidden"), source, "parquet")


def test_in_a_store_too_no_output_is_among_the_files_of_the_input() -> None:
    def would_find(path: str, file: str) -> bool:
        return sources.would_find(source_of(path, (), Classify), file)

    assert would_find("s3://mine/data/**", "s3://mine/data/out/part-000000.parquet")
    assert would_find("s3://mine/my%20data/*", "s3://mine/my data/part-000000.parquet")
    assert not would_find("s3://mine/data/*", "s3://mine/data/out/part-000000.parquet")
    assert not would_find("s3://mine/data/**", "s3://other/data/out/part-000000.parquet")
    assert not would_find("s3://mine/data/**", "/mine/data/out/part-000000.parquet")
    assert not would_find("/mine/data/**", "s3://mine/data/out/part-000000.parquet")


def test_an_output_is_planned_by_one_command_at_a_time() -> None:
    out = Storage.at("out")
    with alone(out), pytest.raises(UserError, match="another command scores into"):
        plan()
    assert not out.exists("_plan.json")
    plan()


def test_the_plan_of_another_command_is_refused_though_it_came_later() -> None:
    made = plan()
    assert plan_of(made.job.out, made.identity)["parts"]
    Path("out/_plan.json").unlink()
    plan(model("0b"))
    with pytest.raises(UserError, match=r"has rows of .*0b, not of .*0a"):
        plan_of(made.job.out, made.identity)
    Path("out/_plan.json").unlink()
    with pytest.raises(UserError, match="was deleted meanwhile"):
        plan_of(made.job.out, made.identity)


def test_a_plan_that_another_command_made_meanwhile_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a store, where nothing is locked."""
    monkeypatch.setattr(job, "alone", lambda out: contextlib.nullcontext())
    parts_and_schema = job._parts_and_schema

    def overtaken(*arguments: Any) -> Any:
        monkeypatch.setattr(job, "_parts_and_schema", parts_and_schema)
        plan(model("0b"))
        return parts_and_schema(*arguments)

    monkeypatch.setattr(job, "_parts_and_schema", overtaken)
    with pytest.raises(UserError, match=r"has rows of .*0b, not of .*0a"):
        plan()
    assert json.loads(Path("out/_plan.json").read_text())["model"].endswith("0b")


def test_nothing_is_begun_for_an_input_that_cannot_be_read() -> None:
    with pytest.raises(UserError, match=r"^IN: .*missing.jsonl"):
        plan(path="missing.jsonl")
    with pytest.raises(
        UserError, match=r"no column 'review': set as `columns.text`; columns: text"
    ):
        plan(overrides=["columns.text=review"])
    assert not Path("out/_plan.json").exists()


@pytest.mark.parametrize(
    ("path", "overrides", "told"),
    [
        ("in.jsonl", ["split=test"], "--set split: no key of how IN is read; there are dataset"),
        ("in.jsonl", ["colums.text=x"], "did you mean 'columns'"),
        ("in.jsonl", ["columns.label=x"], "--set columns.label: no input of the model, .* text"),
        ("in.jsonl", ["encoding=klingon"], "--set encoding: 'klingon' is no encoding"),
        ("in.jsonl", ["format=xml"], "--set format: .*found 'xml'"),
        ("in.jsonl", ["dataset=x"], "IN: 'in.jsonl': it is `-` where"),
        ("-", [], "IN: '-': it is `-` where --set dataset=NAME"),
        ("in.jsonl", ["revision=x"], "--set revision: does not go with `path`"),
    ],
)
def test_keys_of_the_source(path: str, overrides: list[str], told: str) -> None:
    with pytest.raises(UserError, match=told) as raised:
        source_of(path, overrides, Classify)
    assert "recipe" not in str(raised.value), "there is none"


def test_where_no_column_is_an_input_all_are_told() -> None:
    Path("rows.jsonl").write_text('{"question": "Who?"}\n')
    with pytest.raises(UserError) as raised:
        source_of("rows.jsonl", [], Chat)
    assert str(raised.value) == (
        "rows.jsonl: the model reads messages, or prompt; columns: question; name what is meant, "
        "such as --set columns.prompt=question"
    )
    assert (
        source_of("rows.jsonl", ["columns.prompt=question"], Chat).columns["prompt"] == "question"
    )


def test_the_inputs_of_a_task_are_the_columns_that_are_needed() -> None:
    assert source_of("x.csv", ["columns.text=body"], Classify).wanted == {"text": "body"}
    assert source_of("x.csv", (), Tag).wanted == {"tokens": "tokens"}


def test_columns_that_score_adds_are_not_in_the_input() -> None:
    Path("in.jsonl").write_text('{"text": "a", "prediction_label": 1}\n')
    with pytest.raises(UserError, match=r"the column 'prediction_label' .* another --prefix"):
        plan()
    assert plan(prefix="second_").job.prefix == "second_"


def test_columns_are_looked_for_in_several_files() -> None:
    for number in range(3):
        Path(f"{number}.jsonl").write_text(f'{{"text": "a", "of_{number}": {number}}}\n')
    assert plan(path="?.jsonl").job.schema.names == ["text", "of_0", "of_1", "of_2", RESCUED]


def test_parquet_says_its_columns() -> None:
    pq.write_table(pa.table({"text": ["a"], "n": pa.array([1], pa.int8())}), "in.parquet")
    schema = plan(path="in.parquet").job.schema
    assert schema.names == ["text", "n"]
    assert schema.field("n").type == pa.int8()


def test_an_empty_input_has_no_columns() -> None:
    Path("in.jsonl").write_text("")
    source = source_of("in.jsonl", (), Classify)
    assert input_schema(source, []).names == [RESCUED]
