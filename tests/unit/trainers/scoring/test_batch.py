import json
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from cluster.errors import UserError
from cluster.store.storage import Storage
from tests.fakes import Notes
from trainers.scoring import batch
from trainers.scoring.batch import Tally, Workers, allocate, described
from trainers.scoring.job import SCHEMA_VERSION, Model, Planned, ScoreJob, alone

PLAN = {"schema_version": SCHEMA_VERSION} | dict.fromkeys(
    ("model", "model_files", "source", "source_state", "format", "prefix"), "as planned"
)
SMALL, LARGE = {"CPU": 2.0, "GPU": 0.0}, {"CPU": 16.0, "GPU": 2.0}


def summed(nodes: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: sum(node[name] for node in nodes) for name in ("CPU", "GPU")}


@pytest.mark.parametrize(
    ("nodes", "parts", "workers", "gpus", "expected"),
    [
        ([SMALL], 9, None, None, Workers(2, 1, 0.0)),
        ([SMALL], 1, None, None, Workers(1, 2, 0.0)),
        ([SMALL], 9, 1, None, Workers(1, 2, 0.0)),
        ([SMALL] * 3, 4, None, None, Workers(4, 1, 0.0)),
        ([LARGE], 9, None, None, Workers(2, 8, 1.0)),
        ([LARGE], 9, None, 0.5, Workers(4, 4, 0.5)),
        ([LARGE], 9, None, 0.0, Workers(9, 1, 0.0)),
        ([SMALL, LARGE], 9, None, None, Workers(2, 8, 1.0)),
    ],
)
def test_workers_by_what_there_is_and_what_there_is_to_do(
    nodes: list[dict[str, float]], parts: int, workers: Any, gpus: Any, expected: Workers
) -> None:
    assert allocate(nodes, summed(nodes), {}, parts, workers, gpus) == expected


def test_a_cluster_that_grows_may_have_no_node_yet() -> None:
    grown = {"CPU": 8.0, "GPU": 4.0}
    assert allocate([{"CPU": 0.0}], grown, {}, 9, None, None) == Workers(4, 1, 1.0)
    assert allocate([{"CPU": 0.0}], grown, {"GPU": 1.0}, 9, None, None) == Workers(3, 1, 1.0)


def test_a_fraction_of_a_gpu_lies_on_one() -> None:
    assert allocate([LARGE], LARGE, {}, 9, 4, 0.4).number == 4
    with pytest.raises(UserError, match=r"--workers: needs 2\.4 GPUs at once, the cluster has 2"):
        allocate([LARGE], LARGE, {}, 9, 5, 0.4)


def test_what_endpoints_hold_is_no_room() -> None:
    nodes = [{"CPU": 0.0, "GPU": 0.0}]
    told = "needs 1 CPUs at once, the cluster has 2, of which endpoints hold 2; .* delete an endp"
    with pytest.raises(UserError, match=told):
        allocate(nodes, SMALL, {"CPU": 2.0}, 9, None, None)


@pytest.mark.parametrize(
    ("workers", "gpus", "told"),
    [
        (3, None, "--workers: needs 3 CPUs at once, the cluster has 2; set fewer"),
        (None, 1.0, "--gpus-per-worker: needs 1 GPUs at once, the cluster has 0"),
        (0, None, "--workers 0: expected one or more"),
        (None, 1.5, "--gpus-per-worker 1.5: expected 0, 1 or a share"),
        (None, -1.0, "--gpus-per-worker -1"),
    ],
)
def test_what_can_never_fit_is_refused(workers: Any, gpus: Any, told: str) -> None:
    with pytest.raises(UserError, match=told):
        allocate([SMALL], SMALL, {}, 9, workers, gpus)


def test_progress_counts_the_rows_of_this_run() -> None:
    notes = Notes()
    tally = Tally(notes, {0: {"rows": 7, "failures": {}}}, 3)
    tally.update(4, 0, "rows", part=1)
    tally.update(5, 0, "rows", part=2)
    tally.finish({"number": 1, "rows": 8, "failures": {"bad": 1}})
    assert notes.updates == [(1, 3, "parts"), (1, 3, "parts"), (2, 3, "parts")]
    assert tally._rows.total() == 14


def planned(tmp_path: Any, parts: int) -> Planned:
    storage = Storage.at(str(tmp_path / "out"))
    model = Model("model/demo-finetune-0a", "demo", "classify", storage, "", {})
    job: Any = ScoreJob(model, None, storage, "parquet", "prediction_", None)  # type: ignore[arg-type]
    storage.write("_plan.json", json.dumps(PLAN).encode())
    return Planned(job, PLAN, [None] * parts, None)  # type: ignore[list-item]


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

    class Relay:
        def __enter__(self) -> Notes:
            return notes

        def __exit__(self, *_: Any) -> None: ...

    def outcomes(planned: Planned, left: Sequence[int], workers: Workers, progress: Any) -> Any:
        asked.extend(left)
        yield from ({"number": number, **outcome(0, worse=2)} for number in left)

    monkeypatch.setattr(batch, "relayed", lambda progress: Relay())
    monkeypatch.setattr(batch, "_outcomes", outcomes)
    manifest = batch.run(made, [SMALL], SMALL, {}, None, None, notes)
    assert asked == [1, 3]
    assert notes.lines == ["goes on after 2 of 4 parts", "2 workers x 1 CPUs, 2 parts"]
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
    [(outcome(0), "IN: no rows"), (outcome(0, bad=3), "IN: no row could be scored: a.jsonl:0: b")],
)
def test_an_output_of_no_rows_is_a_mistake(tmp_path: Any, done: Any, told: str) -> None:
    made = planned(tmp_path, 1)
    made.job.out.write("_markers/part-000000.json", json.dumps(done).encode())
    with pytest.raises(UserError, match=told):
        batch.run(made, [SMALL], SMALL, {}, None, None, Notes())
    assert not made.job.out.exists("_manifest.json")


def test_two_commands_do_not_write_the_same_output(tmp_path: Any) -> None:
    made = planned(tmp_path, 1)
    with alone(made.job.out), pytest.raises(UserError, match="another command scores into"):
        batch.run(made, [SMALL], SMALL, {}, None, None, Notes())


def test_the_plan_of_another_command_is_not_scored(tmp_path: Any) -> None:
    made = planned(tmp_path, 1)
    made.job.out.write("_plan.json", json.dumps({**PLAN, "model": "another"}).encode())
    with pytest.raises(UserError, match="has rows of another, not of as planned"):
        batch.run(made, [SMALL], SMALL, {}, None, None, Notes())


def test_shards_on_disks_of_other_nodes_are_missed(tmp_path: Any) -> None:
    made = planned(tmp_path, 2)
    for number in range(2):
        made.job.out.write(f"_markers/part-00000{number}.json", json.dumps(outcome(3)).encode())
    made.job.out.write("part-000000.parquet", b"rows")
    told = r"1 of 2 shards are not in .*/out, such as part-000001.parquet; .* every node sees"
    with pytest.raises(UserError, match=told):
        batch.run(made, [SMALL], SMALL, {}, None, None, Notes())
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
    assert batch._markers(made.job) == {0: {"n": 0}, 1: {"n": 1}}


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
