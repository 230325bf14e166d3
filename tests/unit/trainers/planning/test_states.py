"""ZeRO's account of states, and what the engine holds beside it."""

import numpy as np
import pytest

from trainers.engine.training_config import Training
from trainers.planning.states import (
    HEAP,
    HEAP_BESIDE_FROZEN,
    PLAIN_PROCESS,
    Engine,
    Memory,
    moments,
    passing,
    resident,
)

SIZE = 1_000_000


def engine(stage: int, workers: int = 1, precision: str = "bf16", gpu: bool = False) -> Engine:
    settings = Training(workers=workers, zero={"stage": stage})  # type: ignore[arg-type]
    return Engine.of(settings, SIZE, 4 if precision == "fp32" else 2, 1, gpu)


def states(held: Memory) -> float:
    return held.weights + held.optimizer


@pytest.mark.parametrize("workers", [1, 4, 32])
def test_states_are_the_papers(workers: int) -> None:
    """Rajbhandari et al. 2020, fig. 1, without the gradients: 2 and 12 bytes a weight."""
    assert states(resident(engine(0, workers))) == 14 * SIZE
    for stage in (1, 2):
        assert states(resident(engine(stage, workers))) == (2 + 12 / workers) * SIZE
    third = resident(engine(3, workers))
    assert states(third) + third.gradients == 16 * SIZE / workers


def test_in_fp32_only_stages_1_and_2_have_weights_twice() -> None:
    found = [states(resident(engine(stage, precision="fp32"))) / SIZE for stage in range(4)]
    assert found == [12, 16, 16, 12]


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_a_gpu_allocates_the_whole_bucket(stage: int) -> None:
    """Of all gradients, or as large as it is said."""

    def buffers(gpu: bool, **passed: int) -> float:
        settings = Training.model_validate(
            {"zero": {"stage": stage}, "deepspeed": {"zero_optimization": passed}}
        )
        held = Engine.of(settings, SIZE, 2, 1, gpu)
        return moments(held, np.zeros(2), np.array([0.0, 2.0 * SIZE]))["passes"].buffers

    large = 500 * SIZE
    beside = 2 * SIZE if stage == 3 else 0  # gathered weights
    assert buffers(True) == beside + 2 * SIZE
    assert buffers(True, reduce_bucket_size=large) == beside + 2 * large
    assert buffers(False, reduce_bucket_size=large) == buffers(False)


def test_gradients_of_micro_batches_before_are_there_in_the_passes() -> None:
    activations, gradients = np.array([9.0 * SIZE, 0.0]), np.array([0.0, 2.0 * SIZE])
    for stage, kept in ((0, 2.0), (1, 2.0), (2, 0.5)):
        settings = Training(workers=4, batch_size=32, zero={"stage": stage})  # type: ignore[arg-type]
        several = Engine.of(settings, SIZE, 2, 4, on_gpu=False)
        found = passing(several, activations, gradients)
        assert (found.activations, found.gradients) == (9 * SIZE, kept * SIZE)


def test_the_step_has_gradients_in_both_precisions() -> None:
    found = moments(engine(0), np.zeros(1), np.zeros(1))["step"]
    assert found.total - found.checkpoint == (14 + 2 + 4) * SIZE


@pytest.mark.parametrize("stage", range(4))
def test_workers_share_a_checkpoint(stage: int) -> None:
    assert resident(engine(stage, workers=4)).checkpoint == 12 * SIZE / 4
    beside_gpu = resident(engine(stage, workers=4, gpu=True))
    assert (beside_gpu.checkpoint, beside_gpu.host) == (0, 12 * SIZE / 4)


def test_averages_are_on_every_worker_and_in_the_firsts_checkpoint() -> None:
    activations = np.zeros(2)
    settings = Training.model_validate({"workers": 4, "zero": {"stage": 2}})
    without, with_ = (
        moments(Engine.of(settings, SIZE, 2, 1, True, averaged=averaged), activations, activations)
        for averaged in (0, SIZE // 2)
    )
    for moment in ("passes", "reduce", "step"):
        assert with_[moment].buffers - without[moment].buffers == 2 * 4 * SIZE // 2
        assert with_[moment].host - without[moment].host == 2 * 4 * SIZE // 2


def test_an_adapter_is_read_by_another_process() -> None:
    settings, nothing = Training.model_validate({}), np.zeros(1)
    cpu, gpu = (
        Engine.of(settings, SIZE, 2, 1, on_gpu, frozen=9 * SIZE) for on_gpu in (False, True)
    )
    found = moments(cpu, nothing, nothing)["export"]
    assert (found.framework, found.buffers) == (PLAIN_PROCESS, 4 * 9 * SIZE + 4 * SIZE)
    assert moments(gpu, nothing, nothing)["export"].host == PLAIN_PROCESS + 4 * 9 * SIZE + 4 * SIZE


def test_beside_a_frozen_base_nothing_fills_the_heaps_gaps() -> None:
    activations, settings = np.array([9.0 * SIZE, 0.0]), Training.model_validate({})
    alone, beside = (
        moments(Engine.of(settings, 1, 2, 1, False, frozen=frozen), activations, np.zeros(2))
        for frozen in (0, SIZE)
    )
    kept = [one["step"].activations for one in (alone, beside)]
    assert kept == pytest.approx([HEAP * 9 * SIZE, HEAP_BESIDE_FROZEN * 9 * SIZE], abs=99)


def test_what_an_evaluation_gathered_is_there_at_the_export() -> None:
    settings = Training.model_validate({"workers": 4, "zero": {"stage": 3}})
    found = moments(Engine.of(settings, SIZE, 2, 1, True, frozen=SIZE), np.zeros(1), np.zeros(1))
    assert found["export"].buffers == found["passes"].buffers == (2 + 2 + 2) * SIZE


def test_an_export_takes_a_file_of_weights() -> None:
    found = moments(engine(2, workers=32), np.zeros(1), np.zeros(1))
    assert found["export"].buffers == 4 * SIZE
    assert found["export"].checkpoint == 0


def test_what_is_offloaded_is_in_the_nodes_memory() -> None:
    zero = {"stage": 3, "offload_optimizer": "cpu", "offload_parameters": "cpu"}
    settings = Training(workers=4, zero=zero)  # type: ignore[arg-type]
    found = resident(Engine.of(settings, SIZE, 2, 1, on_gpu=True))
    assert found.weights == found.optimizer == 0
    assert found.host >= (2 + 12) * SIZE / 4
    assert found.total == found.gradients + found.buffers
    alone = resident(Engine.of(settings, SIZE, 2, 1, on_gpu=False))
    assert alone.host == 0
    assert alone.total > found.host


def test_the_heap_keeps_what_the_passes_took() -> None:
    activations, gradients = np.array([9.0 * SIZE, 0.0]), np.array([0.0, 2.0 * SIZE])
    cpu = moments(engine(2), activations, gradients)
    gpu = moments(engine(2, gpu=True), activations, gradients)
    for moment in ("passes", "reduce", "step"):
        in_heap = cpu[moment].activations + cpu[moment].checkpoint
        assert in_heap == max(HEAP * 9, 9 + 12) * SIZE, "the checkpoint fills the gaps"
    assert gpu["passes"].activations == 9 * SIZE
    assert gpu["step"].activations == 0
