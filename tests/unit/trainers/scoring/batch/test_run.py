import json
import threading
from typing import Any

import pytest

from cluster.errors import UserError
from cluster.store.storage import Storage
from tests.fakes import Notes
from trainers.corpora.reading.sources import Part
from trainers.scoring.batch import run
from trainers.scoring.batch.job import SCHEMA_VERSION, ScoreJob, ScorePlan, alone
from trainers.scoring.batch.run import described
from trainers.scoring.model import Model
from trainers.scoring.workers import PartsDone, Room

PLAN = {"schema_version": SCHEMA_VERSION} | dict.fromkeys(
    ("model", "model_files", "source", "source_state", "format", "prefix"), "as planned"
)
SMALL = {"CPU": 2.0, "GPU": 0.0}
ROOM = Room([SMALL], SMALL)


def planned(tmp_path: Any, parts: int) -> ScorePlan:
    storage = Storage.at(str(tmp_path / "out"))
    model = Model("model/demo-finetune-0a", "demo", "classify", storage, "", {}, storage)
    job: Any = ScoreJob(model, None, storage, "parquet", "prediction_", None)  # type: ignore[arg-type]
    storage.write("_plan.json", json.dumps(PLAN).encode())
    return ScorePlan(job, PLAN, [Part("in.jsonl")] * parts, None)


def outcome(rows: int, **failures: int) -> dict[str, Any]:
    first = {reason: f"a.jsonl:{rows}: {reason}" for reason in failures}
    return {"rows": rows, "failures": failures, "first": first}


def test_only_parts_without_a_marker_are_scored(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, asked, notes = planned(tmp_path, 4), [], Notes()
    out = made.job.out
    for number in (0, 2):
        out.write(f"_markers/part-00000{number}.json", json.dumps(outcome(3, bad=1)).encode())
        out.write(f"part-00000{number}.parquet", b"rows")
    out.write(".unfinished/left/part-000001.parquet", b"half")
    out.write("_markers/part-000001.json.1a2b3c4d.part", b'{"ro')  # of a run that was killed

    def score_parts(model: Any, work: Any, parts: Any, room: Room, done: PartsDone) -> None:
        asked.extend(parts)
        for number in parts:
            done.finish(number, outcome(0, worse=2))

    monkeypatch.setattr(run, "score_parts", score_parts)
    manifest = run.run(made, ROOM, notes)
    assert asked == [1, 3]
    assert notes.lines == ["goes on after 2 of 4 parts"]
    assert manifest["rows"] == 6
    assert manifest["failures"] == {"worse": 4, "bad": 2}
    assert manifest["shards"] == {"part-000000.parquet": 3, "part-000002.parquet": 3}
    assert [*out.files("")] == [
        *(".lock", "_manifest.json", "_plan.json", "part-000000.parquet", "part-000002.parquet")
    ]
    assert described(manifest, "out") == [
        "6 rows scored by model/demo-finetune-0a, in out",
        "6 rows could not be scored, and are in out/_errors:",
        "  4 x worse, first a.jsonl:0: worse",
        "  2 x bad, first a.jsonl:3: bad",
    ]


@pytest.mark.parametrize(
    ("done", "told"),
    [
        (outcome(0), "IN: no rows"),
        (outcome(0, bad=3), "IN: no row could be scored: a.jsonl:0: b"),
    ],
)
def test_an_output_of_no_rows_is_a_mistake_that_leaves_nothing(
    tmp_path: Any, done: Any, told: str
) -> None:
    """So that OUT takes another IN, or the same by other keys."""
    made = planned(tmp_path, 1)
    made.job.out.write("_markers/part-000000.json", json.dumps(done).encode())
    made.job.out.write("_errors/part-000000.jsonl", b"{}")
    with pytest.raises(UserError, match=told):
        run.run(made, ROOM, Notes())
    assert {*made.job.out.files("")} == {".lock"}


def test_what_the_same_command_finished_meanwhile_is_not_done_again(tmp_path: Any) -> None:
    made = planned(tmp_path, 1)
    made.job.out.write("_manifest.json", b'{"rows": 3}')
    assert run.run(made, ROOM, Notes()) == {"rows": 3}


def test_two_commands_do_not_write_the_same_output(tmp_path: Any) -> None:
    made = planned(tmp_path, 1)
    with alone(made.job.out), pytest.raises(UserError, match="another command scores into"):
        run.run(made, ROOM, Notes())


def test_the_plan_of_another_command_is_not_scored(tmp_path: Any) -> None:
    made = planned(tmp_path, 1)
    made.job.out.write("_plan.json", json.dumps({**PLAN, "model": "another"}).encode())
    with pytest.raises(UserError, match="has rows of another, not of as planned"):
        run.run(made, ROOM, Notes())


def test_shards_on_disks_of_other_nodes_are_missed(tmp_path: Any) -> None:
    made = planned(tmp_path, 2)
    for number in range(2):
        made.job.out.write(f"_markers/part-00000{number}.json", json.dumps(outcome(3)).encode())
    made.job.out.write("part-000000.parquet", b"rows")
    told = r"1 of 2 shards are not in .*/out, such as part-000001.parquet; .* every node sees"
    with pytest.raises(UserError, match=told):
        run.run(made, ROOM, Notes())
    assert not made.job.out.exists("_manifest.json")


def test_markers_are_read_at_the_same_time(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made, both = planned(tmp_path, 2), threading.Barrier(2, timeout=60)
    for number in range(2):
        made.job.out.write(f"_markers/part-00000{number}.json", json.dumps({"n": number}).encode())
    read = Storage.read

    def waiting(storage: Storage, name: str) -> bytes:
        both.wait()
        return read(storage, name)

    monkeypatch.setattr(Storage, "read", waiting)
    assert run._markers(made.job) == {0: {"n": 0}, 1: {"n": 1}}


def test_files_that_cannot_be_read_to_their_end_are_told_by_themselves() -> None:
    reason = "file cannot be read to its end"
    manifest = {
        "model": "m",
        "rows": 6,
        "failures": {"bad": 2, reason: 1},
        "first_failures": {"bad": "a:1: bad", reason: f"b.gz: {reason}: b.gz: cut off"},
    }
    assert described(manifest, "out")[1:] == [
        "1 x a part of IN could not be read to its end, and what follows there is not scored; "
        "first b.gz: file cannot be read to its end: b.gz: cut off",
        "2 rows could not be scored, and are in out/_errors:",
        "  2 x bad, first a:1: bad",
    ]
