"""What `auto` comes to on some clusters."""

from typing import Any

import pytest

from cluster.recipe.loading import load, override
from tests.fakes import Notes
from trainers.engine.training_config import Training
from trainers.launch.allocation import allocate, allocated, decided, side_by_side, told
from trainers.tasks.pretraining.config import Pretrain

GPU_NODE = {"CPU": 32.0, "GPU": 8.0}


def nodes(*cpus: int) -> list[dict[str, float]]:
    return [{"CPU": float(count)} for count in cpus]


@pytest.mark.parametrize(
    ("cluster", "expected"),
    [
        (nodes(1), (1, 1)),
        (nodes(2), (1, 2)),
        (nodes(8), (1, 8)),
        (nodes(12), (2, 6)),
        (nodes(16), (2, 8)),
        (nodes(64), (8, 8)),
        (nodes(4, 4), (2, 4)),
        (nodes(4, 2), (3, 2)),
        (nodes(0, 8), (1, 8)),
        ([{"CPU": 2.5}], (1, 2)),
        (nodes(0), (1, 1)),
        ([], (1, 1)),
        ([GPU_NODE], (4, 8)),
    ],
)
def test_a_training_has_all_cpus(cluster: Any, expected: tuple[int, int]) -> None:
    assert allocate(Training(), cluster) == expected


@pytest.mark.parametrize(
    ("keys", "cluster", "expected"),
    [
        ({"gpus_per_worker": 1}, [GPU_NODE] * 2, (16, 4)),
        ({"gpus_per_worker": 1}, [{"CPU": 8.0}, GPU_NODE], (8, 4)),  # a head without GPUs
        ({"gpus_per_worker": 0.5}, [GPU_NODE], (1, 8)),
        ({"gpus_per_worker": 1}, [GPU_NODE, {"CPU": 64.0}], (8, 4)),
        ({"gpus_per_worker": 1, "cpus_per_worker": 16}, [GPU_NODE], (2, 16)),
        ({"gpus_per_worker": 1}, nodes(8), (1, 1)),  # refused, with what it needs
        ({"workers": 3}, nodes(8), (3, 2)),
        ({"workers": 3}, nodes(2), (3, 1)),
        ({"workers": {"min": 1, "max": 2}}, nodes(4, 4), (2, 4)),
        ({"cpus_per_worker": 2}, nodes(8), (4, 2)),
        ({"workers": 2, "cpus_per_worker": 3}, nodes(64), (2, 3)),
        ({"batch_size": 4}, nodes(64), (4, 8)),
    ],
)
def test_what_a_recipe_says_counts(keys: Any, cluster: Any, expected: tuple[int, int]) -> None:
    assert allocate(Training.model_validate(keys), cluster) == expected


def test_workers_that_share_sequences_come_in_groups() -> None:
    keys = {"model": {"architecture": "llama"}, "objective": "causal_lm", "sequence_parallel": 2}
    settings = Pretrain.model_validate(keys)
    assert (settings.least_workers, settings.most_workers) == (2, 2)
    assert allocate(settings, nodes(8, 8, 8)) == (2, 8)
    assert allocate(settings, nodes(8)) == (2, 4)
    assert allocate(settings, nodes(1)) == (2, 1), "which is refused, with what it needs"


@pytest.mark.parametrize(
    ("together", "cluster", "expected"),
    [
        (2, nodes(2), (1, 1)),
        (2, nodes(8), (1, 4)),
        (4, nodes(8, 2), (1, 2)),
        (3, nodes(2), (1, 1)),
        (2, nodes(64), (1, 8)),
    ],
)
def test_trainings_side_by_side_share_the_cpus(
    together: int, cluster: Any, expected: tuple[int, int]
) -> None:
    settings = Training()
    workers, cpus = allocate(settings, cluster, together)
    assert (workers, cpus) == expected
    several = allocate(Training(workers=2), nodes(8), side_by_side=2)
    assert several == (2, 2), "two trials of two workers"
    elastic = Training.model_validate({"workers": {"min": 1, "max": 2}})
    assert allocate(elastic, nodes(8), side_by_side=2) == (1, 4)
    assert allocate(elastic, nodes(8)) == (2, 4)


@pytest.mark.parametrize(
    ("gpus", "together", "cluster", "expected"),
    [
        (1, 4, [{"CPU": 8.0, "GPU": 1.0}], (1, 8)),  # one after the other
        (1, 4, [{"CPU": 8.0, "GPU": 2.0}], (1, 4)),
        (0.5, 4, [{"CPU": 8.0, "GPU": 1.0}], (1, 4)),
        (0.25, 4, [{"CPU": 8.0, "GPU": 1.0}], (1, 2)),
        (1, 2, nodes(8), (1, 1)),  # refused, with what it needs
    ],
)
def test_trainings_that_find_a_gpu_share_the_cpus(
    gpus: float, together: int, cluster: Any, expected: tuple[int, int]
) -> None:
    assert allocate(Training(gpus_per_worker=gpus), cluster, together) == expected


def test_gpus_are_told() -> None:
    assert told(Training(workers=2, cpus_per_worker=4, gpus_per_worker=1), 1) == (
        "2 x 4 CPUs and 1 GPU (workers x cpus_per_worker; auto)"
    )


def test_a_recipe_gets_numbers_and_a_line() -> None:
    recipe, notes = (
        load("chinese-sentiment", ["finetune.evaluation.seeds=2", "tune.concurrent=4"]),
        Notes(),
    )
    assert [side_by_side(recipe, stage) for stage in ("pretrain", "tune", "evaluate")] == [1, 4, 3]
    tuned = decided(recipe, "finetune", "tune", nodes(8), notes)
    assert tuned.finetune.resources == {"CPU": 2.0}
    assert notes.lines == [told(tuned.finetune, 4)]
    assert "1 x 2 CPUs for each of 4 trainings side by side" in notes.lines[0]
    assert override(tuned, {"tune": None}).finetune.resources == {"CPU": 2.0}, "as a trial has it"
    assert tuned.finetune.identity() == recipe.finetune.identity()
    assert decided(tuned, "finetune", "finetune", nodes(4), notes) is tuned, "it is decided"
    assert len(notes.lines) == 1
    assert allocated(recipe, "finetune", nodes(4)).finetune.resources == {"CPU": 4.0}
