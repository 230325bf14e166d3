"""A part, from its file to its shard, with a tiny model and no Ray."""

import contextlib
import gzip
import json
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.errors import UserError
from tests.classifiers import LABELS, save_classifier
from tests.fakes import TEXTS, Notes
from trainers.corpora.reading import sources
from trainers.corpora.reading.formats import streams
from trainers.scoring import answers
from trainers.scoring.answers import characters, read_ahead
from trainers.scoring.batch import job, shards
from trainers.scoring.batch.job import ScorePlan, make_plan, source_of
from trainers.scoring.batch.part import score_part
from trainers.scoring.model import model_in_folder
from trainers.tasks.classify.spec import Classify
from trainers.tasks.predictor import CPU, Predictor


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Any:
    return save_classifier(tmp_path_factory.mktemp("model"), tokenizer)


@pytest.fixture
def plan(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)

    def make(
        path: str,
        *overrides: str,
        format: str = "parquet",
        out: str = "out",
        prefix: str = "prediction_",
    ) -> ScorePlan:
        found = model_in_folder(str(model))
        assert found is not None
        source = source_of(path, overrides, Classify)
        return make_plan(found, source, out, format, prefix, lambda line: None)

    return make


def run(made: ScorePlan) -> list[dict[str, Any]]:
    predictor = made.job.model.load(CPU)
    return [
        score_part(made.job, predictor, number, asdict(part), Notes(), contextlib.nullcontext())
        for number, part in enumerate(made.parts)
    ]


def write(name: str, rows: list[Any]) -> None:
    lines = (json.dumps(row, ensure_ascii=False) for row in rows)
    Path(name).write_text("".join(f"{line}\n" for line in lines), "utf-8")


def test_rows_keep_their_columns_and_their_order(plan: Any, model: Path) -> None:
    texts = [*TEXTS, "好", *TEXTS[::-1]]
    write("in.jsonl", [{"id": n, "text": text, "tags": ["a"]} for n, text in enumerate(texts)])
    made = plan("in.jsonl")
    assert [one["rows"] for one in run(made)] == [len(texts)]
    table = pq.read_table("out")
    assert table["id"].to_pylist() == [*range(len(texts))]
    assert table["text"].to_pylist() == texts
    assert table["tags"].to_pylist() == [["a"]] * len(texts)
    outputs = made.job.model.load(CPU).predict(texts)
    assert table["prediction_label"].to_pylist() == [one.label for one in outputs]
    for written, one in zip(table.to_pylist(), outputs, strict=True):
        known = dict(written["prediction_probabilities"])
        assert known == pytest.approx(one.probabilities, abs=1e-6)
        assert written["prediction_score"] == known[one.label]
        assert written["prediction_tokens"] == one.tokens
    assert not list(Path("out").glob(".unfinished/*"))


def test_buffers_make_one_shard(plan: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "BUFFER_CHARACTERS", 8)
    monkeypatch.setattr(Predictor, "buffer_rows", 2)
    monkeypatch.setattr(shards, "ROW_GROUP_ROWS", 3)
    write("in.jsonl", [{"n": n, "text": TEXTS[n % 5]} for n in range(9)])
    run(plan("in.jsonl"))
    file = pq.ParquetFile("out/part-000000.parquet")
    assert file.num_row_groups > 1
    assert file.read()["n"].to_pylist() == [*range(9)]


@pytest.mark.parametrize("name", ["in.jsonl", "in.jsonl.gz"])
def test_what_is_done_of_a_part_is_told(
    name: str, plan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "BUFFER_CHARACTERS", 2_000)
    monkeypatch.setattr(Predictor, "buffer_rows", 20)
    write("in.jsonl", [{"text": 1 if n % 10 else TEXTS[0]} for n in range(90)])
    if name.endswith(".gz"):
        Path(name).write_bytes(gzip.compress(Path("in.jsonl").read_bytes()))
    made, notes = plan(name), Notes()
    predictor, part = made.job.model.load(CPU), asdict(made.parts[0])
    score_part(made.job, predictor, 0, part, notes, contextlib.nullcontext())
    assert [done for done, *_ in notes.updates] == [20, 40, 60, 80, 90]
    totals = [total for _, total, _ in notes.updates]
    assert totals == (pytest.approx([90] * 5, rel=0.1) if name == "in.jsonl" else [0] * 5)
    assert all(one["part"] == 0 for one in notes.metrics)


@pytest.mark.parametrize(
    ("value", "size"),
    [
        ("four", 4),
        (b"\xff" * 1000, 1000),
        (["word"] * 5000, 20_000),
        ({"a": [b"12", {"b": "345"}], "c": None}, 6),
        ([("key", "value")], 8),
        ([0.5] * 768, 768),
    ],
)
def test_rows_that_are_large_in_any_way_fill_a_buffer(value: Any, size: int) -> None:
    assert characters({"text": "ab", "more": value}) == 2 + size


def test_jsonl_has_objects_as_the_endpoint_answers(plan: Any) -> None:
    write("in.jsonl", [{"text": TEXTS[0], "more": {"x": [1, "a"]}}, {"text": TEXTS[1]}])
    run(plan("in.jsonl", format="jsonl"))
    first, second = map(json.loads, Path("out/part-000000.jsonl").read_text("utf-8").splitlines())
    assert first["more"] == {"x": [1, "a"]}
    assert "more" not in second
    assert {*first["prediction_probabilities"]} == {*LABELS}
    assert first["prediction_truncated"] is False


def test_rows_that_cannot_be_scored_are_aside_with_reasons(
    plan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainers.scoring.batch.job.SAMPLED_ROWS", 3)
    lines = [
        '{"text": "fine", "x": 1}',
        '{"text": 3}',
        '{"text": null}',
        '{"x": 2}',
        "{",
        '{"text": "fine", "prediction_label": "mine"}',
        '{"text": ""}',
    ]
    Path("in.jsonl").write_text("\n".join(lines), "utf-8")
    made = plan("in.jsonl", "columns.text=text")
    (outcome,) = run(made)
    assert outcome["rows"] == 2
    assert outcome["failures"] == {
        "column 'text' is int, not text": 1,
        "no text in column 'text'": 1,
        "no column 'text'": 1,
        "not JSON": 1,
        "a column of score's own name": 1,
    }
    aside = [*map(json.loads, Path("out/_errors/part-000000.jsonl").read_text().splitlines())]
    assert [one["where"].rpartition(":")[2] for one in aside] == ["2", "3", "4", "5", "6"]
    assert aside[0]["row"] == {"text": 3}
    assert "row" not in aside[3]
    assert json.loads(Path("out/_markers/part-000000.json").read_text()) == outcome
    assert pq.read_table("out")["text"].to_pylist() == ["fine", ""]


def test_of_an_empty_text_no_answer_is_certain(plan: Any) -> None:
    """Also of one that cleaning leaves nothing of."""
    write("in.jsonl", [{"text": text} for text in ("", " \u200b\n", "fine")])
    run(plan("in.jsonl"))
    scores = pq.read_table("out")["prediction_score"].to_pylist()
    assert scores[:2] == [None, None]
    assert scores[2] > 0


def test_half_a_character_is_told(plan: Any) -> None:
    halves = (r"ab\ud800", r"\udc00 x")
    Path("in.jsonl").write_text("".join(f'{{"text": "{text}"}}\n' for text in ("fine", *halves)))
    (outcome,) = run(plan("in.jsonl"))
    assert outcome["failures"] == {"not JSON": 2}
    for line in Path("out/_errors/part-000000.jsonl").read_text().splitlines():
        assert json.loads(line)["detail"].startswith("half of a surrogate pair, which is no char")


def test_a_part_without_rows_leaves_a_marker_alone(plan: Any) -> None:
    write("a.jsonl", [{"text": "x"}])
    Path("b.jsonl").write_text("")
    assert [one["rows"] for one in run(plan("*.jsonl"))] == [1, 0]
    assert {path.name for path in Path("out").glob("part-*")} == {"part-000000.parquet"}
    assert Path("out/_markers/part-000001.json").is_file()
    assert not Path("out/_errors").exists()


def test_what_cannot_be_read_to_its_end_costs_no_other_row(
    plan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "BUFFER_BYTES", 1 << 12)
    write("a.jsonl", [{"text": f"fine {n}", "n": n} for n in range(3)])
    Path("b.csv").write_text("body,n\nfine,1\n")
    whole = gzip.compress(b"".join(b'{"text": "%x"}\n' % hash((n, n)) for n in range(9_999)))
    Path("c.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    Path("d.json").write_text('[{"text": "fine"}, {"text": "fine"}, {"text": ')
    outcomes = run(plan("*.*"))
    rows = [one["rows"] for one in outcomes]
    assert (rows[0], rows[1], rows[3]) == (3, 0, 2)
    assert 0 < rows[2] < 9_999, "those before the fault"
    unread = {"file cannot be read to its end": 1}
    assert [one["failures"] for one in outcomes] == [{}, unread, unread, unread]
    for number, told in ((1, "b.csv: no column 'text'"), (2, "c.jsonl.gz"), (3, "d.json:item 3")):
        (line,) = Path(f"out/_errors/part-00000{number}.jsonl").read_text().splitlines()
        assert told in json.loads(line)["detail"]
        assert Path(f"out/_markers/part-00000{number}.json").is_file()
    assert pq.read_table("out").num_rows == sum(rows)


def test_a_file_that_went_away_is_not_taken_for_one_without_rows(plan: Any) -> None:
    write("a.jsonl", [{"text": "x"}])
    write("b.jsonl", [{"text": "x"}])
    made = plan("*.jsonl")
    Path("b.jsonl").unlink()
    with pytest.raises(UserError, match=r"b.jsonl: cannot be read: .*No such file"):
        run(made)
    assert not Path("out/_markers/part-000001.json").exists()


def test_parquet_without_the_column_costs_no_other_file(plan: Any) -> None:
    pq.write_table(pa.table({"body": ["x"]}), "a.parquet")
    pq.write_table(pa.table({"text": ["x"]}), "b.parquet")
    assert [one["rows"] for one in run(plan("*.parquet"))] == [0, 1]
    with pytest.raises(UserError, match="no column 'text'"):
        plan("a.parquet", out="other")


def test_types_of_parquet_stay(plan: Any) -> None:
    table = pa.table(
        {
            "text": pa.array(["a", "b"]),
            "n": pa.array([1, None], pa.int16()),
            "short": pa.array([0.1, 2.0], pa.float32()),
            "raw": pa.array([b"\xff", b"ok"]),
            "kind": pa.array(["x", "x"]).dictionary_encode(),
            "nested": pa.array([{"a": [1]}, None]),
        }
    )
    pq.write_table(table, "in.parquet")
    run(plan("in.parquet"))
    written = pq.ParquetFile("out/part-000000.parquet").read()
    for name in table.column_names:
        assert written.schema.field(name).type == table.schema.field(name).type, name
        assert written[name].to_pylist() == table[name].to_pylist(), name


def test_what_one_model_scored_another_scores(plan: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "SAMPLED_ROWS", 1)
    write("in.jsonl", [{"text": "a", "n": 1}, {"text": "b", "n": "many"}])
    run(plan("in.jsonl", out="first"))
    run(plan("first/*.parquet", out="second", prefix="second_"))
    rows = pq.ParquetFile("second/part-000000.parquet").read().to_pylist()
    assert [row["rescued_data"] for row in rows] == [None, '{"n":"many"}']
    assert {"prediction_label", "second_label"} <= rows[0].keys()


def test_a_csv_of_another_header_is_refused_and_two_equal_columns(plan: Any) -> None:
    Path("b.csv").write_text("body,x\na,1\n")
    with pytest.raises(UserError, match=r"no column 'text': set as `columns.text`; columns: body"):
        plan("b.csv")
    Path("a.csv").write_text("text,x,x\na,1,2\n")
    with pytest.raises(UserError, match="2 columns are called 'x'"):
        plan("a.csv")


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_model_that_was_damaged_is_not_loaded(
    tmp_path: Path, tokenizer: Any, file: str, plan: Any
) -> None:
    folder = save_classifier(tmp_path / "own", tokenizer)
    found = model_in_folder(str(folder))
    assert found is not None
    data = bytearray((folder / file).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / file).write_bytes(data)
    with pytest.raises(UserError, match=f"is damaged: .*{file} has other bytes"):
        found.load(CPU)


def test_a_folder_that_is_no_whole_model_is_told(tmp_path: Path, tokenizer: Any) -> None:
    folder = save_classifier(tmp_path / "own", tokenizer)
    (folder / "config.json").unlink()
    found = model_in_folder(str(folder))
    assert found is not None
    with pytest.raises(UserError, match="own cannot be loaded: "):
        found.load(CPU)


def test_an_error_of_a_part_leaves_nothing(plan: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    write("in.jsonl", [{"text": "x"}])
    made = plan("in.jsonl")
    monkeypatch.setattr(shards.ParquetShard, "close", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(made)
    left = {path.name for path in Path("out").rglob("*") if path.is_file()}
    assert left == {".lock", "_plan.json"}


def test_the_next_item_is_made_while_one_is_in_use() -> None:
    made, wanted = threading.Event(), []

    def items() -> Any:
        yield 1
        made.set()
        yield 2
        raise ValueError("the third")

    ahead = read_ahead(items())
    wanted.append(next(ahead))
    assert made.wait(60), "before it is asked for"
    wanted.append(next(ahead))
    with pytest.raises(ValueError, match="the third"):
        next(ahead)
    assert wanted == [1, 2]
    assert [*read_ahead([])] == []


def test_an_output_may_be_in_an_object_store(plan: Any, s3_server: Any) -> None:
    write("in.jsonl", [{"text": "a"}, {"text": 3}])
    made = plan("in.jsonl", out=s3_server.workspace())
    run(made)
    out = made.job.out
    assert {*out.files("")} == {
        "_plan.json",
        "part-000000.parquet",
        "_errors/part-000000.jsonl",
        "_markers/part-000000.json",
    }
    assert pq.read_table(pa.BufferReader(out.read("part-000000.parquet"))).num_rows == 1
    assert plan("in.jsonl", out=out.root).parts == made.parts


def test_parts_are_those_of_any_source(plan: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainers.scoring.batch.job.PART_BYTES", 40)
    monkeypatch.setattr(sources, "HEAD_BYTES", 16)
    write("in.jsonl", [{"text": f"{n}"} for n in range(12)])
    made = plan("in.jsonl")
    assert len(made.parts) > 3
    run(made)
    tables = [pq.ParquetFile(path).read() for path in sorted(Path("out").glob("*.parquet"))]
    assert pa.concat_tables(tables)["text"].to_pylist() == [f"{n}" for n in range(12)]
