import pickle
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import ray.data
from ray.data._internal.util import _annotate_exception_with_retry_context
from ray.exceptions import OutOfMemoryError, RayTaskError

from cluster.errors import InfrastructureError, UserError
from cluster.runs import progress
from cluster.runs.progress import Console
from tests.fakes import Notes, Screen
from trainers.scoring import workers
from trainers.scoring.workers import PartsDone, Room, Workers, allocate

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
    assert allocate(Room(nodes, summed(nodes), {}, workers, gpus), parts) == expected


def test_a_cluster_that_grows_may_have_no_node_yet() -> None:
    grown = {"CPU": 8.0, "GPU": 4.0}
    assert allocate(Room([{"CPU": 0.0}], grown), 9) == Workers(4, 1, 1.0)
    assert allocate(Room([{"CPU": 0.0}], grown, {"GPU": 1.0}), 9) == Workers(3, 1, 1.0)


def test_a_fraction_of_a_gpu_lies_on_one() -> None:
    assert allocate(Room([LARGE], LARGE, {}, 4, 0.4), 9).number == 4
    with pytest.raises(UserError, match=r"--workers: needs 2\.4 GPUs at once, the cluster has 2"):
        allocate(Room([LARGE], LARGE, {}, 5, 0.4), 9)


def test_what_endpoints_hold_is_no_room() -> None:
    nodes = [{"CPU": 0.0, "GPU": 0.0}]
    told = "needs 1 CPUs at once, the cluster has 2, of which endpoints hold 2; .* delete an endp"
    with pytest.raises(UserError, match=told):
        allocate(Room(nodes, SMALL, {"CPU": 2.0}), 9)


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
        allocate(Room([SMALL], SMALL, {}, workers, gpus), 9)


@pytest.mark.parametrize("given", [Workers(3, 2, 0.0), Workers(2, 4, 0.25)])
def test_a_worker_holds_the_share_of_a_gpu_that_it_is_told_of(
    given: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = mock.Mock()
    dataset.map_batches.return_value.iter_rows.return_value = []
    monkeypatch.setattr(ray.data, "from_items", lambda items, override_num_blocks: dataset)
    model, work = mock.Mock(), mock.Mock()
    assert [*workers._outcomes(model, work, {0: {}}, given, Notes())] == []
    (_,), asked = dataset.map_batches.call_args
    assert (asked["num_cpus"], asked["num_gpus"]) == (given.cpus, given.gpus)
    assert asked["fn_constructor_args"][2:4] == (given.cpus, given.gpus)
    assert asked["compute"].max_size == given.number


def test_a_worker_that_lacks_memory_is_told_by_what_scoring_can_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dataset = mock.Mock()
    dataset.map_batches.return_value.iter_rows.side_effect = OutOfMemoryError("killed")
    monkeypatch.setattr(ray.data, "from_items", lambda items, override_num_blocks: dataset)
    told = r"lacked memory .*; give its node more, or set fewer --workers$"
    with pytest.raises(InfrastructureError, match=told):
        [*workers._outcomes(mock.Mock(), mock.Mock(), {0: {}}, Workers(1, 1, 0.0), Notes())]


def test_an_error_of_ours_comes_without_notes_of_ray_data(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Any:
        raise UserError("a.jsonl:1: damaged")

    scorer = workers.Scorer(mock.Mock(), refuse, 1, 0.0, Notes())
    monkeypatch.setattr(workers.Scorer, "_predictor", None)
    with pytest.raises(workers.Enclosed) as caught:
        scorer({"number": [0], "part": ["{}"]})
    context = {"description": "", "attempts": 1, "max_attempts": 1, "total_backoff_s": 0.0}
    noted = _annotate_exception_with_retry_context(caught.value, exception_str="", **context)
    sent = pickle.loads(pickle.dumps(noted))
    assert "retry attempts" in str(sent), "else it need not be enclosed"
    dataset = mock.Mock()
    dataset.map_batches.return_value.iter_rows.side_effect = RayTaskError("f", "", sent)
    monkeypatch.setattr(ray.data, "from_items", lambda items, override_num_blocks: dataset)
    with pytest.raises(UserError, match=r"^a.jsonl:1: damaged$"):
        [*workers._outcomes(mock.Mock(), mock.Mock(), {0: {}}, Workers(1, 1, 0.0), Notes())]


@pytest.mark.parametrize(
    ("workers_", "parts", "line"),
    [
        (Workers(1, 1, 0.0), 1, "1 worker x 1 CPU, 1 part"),
        (Workers(2, 4, 0.5), 1_200, "2 workers x 4 CPUs and 0.5 GPU, 1,200 parts"),
    ],
)
def test_workers_are_told_in_words(workers_: Workers, parts: int, line: str) -> None:
    assert workers._described(workers_, parts) == line


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Shows the seconds that a test sets."""
    made = SimpleNamespace(now=0.0)
    made.monotonic = lambda: made.now
    for module in (workers, progress):
        monkeypatch.setattr(module, "time", made)
    return made


def test_progress_is_of_all_rows_and_the_speed_of_those_of_this_run(clock: SimpleNamespace) -> None:
    notes = Notes()
    done = PartsDone(notes, {0: {"rows": 7, "failures": {"bad": 1}}}, 4)
    clock.now = 20.0  # until a worker has its model
    done.update(0, 0, "rows", part=1)
    clock.now = 22.0
    done.update(4, 8, "rows", part=1)
    done.update(5, 0, "rows", part=2)
    done.finish(1, {"rows": 8, "failures": {"bad": 1}})
    done.update(8, 8, "rows", part=1)  # comes by another way, and late
    assert notes.updates == [(n, 100, "%") for n in (25.0, 37.5, 37.5, 50.0, 50.0)]
    assert [one["parts"] for one in notes.metrics] == [*["1 of 4"] * 3, *["2 of 4"] * 2]
    assert [one["rows"] for one in notes.metrics] == [8, 12, 17, 22, 21]
    assert [one["rows_per_second"] for one in notes.metrics] == [0.0, 2.0, 4.5, 7.0, 6.5]


def test_the_time_left_is_shown_of_a_single_part(clock: SimpleNamespace) -> None:
    screen = Screen()
    done = PartsDone(Console(screen, "score"), {}, 1)
    clock.now = 30.0
    done.update(0, 0, "rows", part=0)
    for rows in (400, 600):
        clock.now += 20.0
        done.update(rows, 1_000, "rows", part=0)
    assert screen.err.getvalue().splitlines()[1:] == [
        "score: 40 %  00:30 left  parts 0 of 1  rows 400  rows/s 20",
        "score: 60 %  00:26 left  parts 0 of 1  rows 600  rows/s 15",
    ]
