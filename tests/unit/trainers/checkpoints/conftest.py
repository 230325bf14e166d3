"""Two ranks that hold a small model, in turn, in one process."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from cluster.store.artifacts import Draft
from cluster.store.storage import Storage
from tests.fakes import Notes
from trainers.checkpoints import optimizer_fragments, restoring, saving
from trainers.checkpoints.restoring import restore
from trainers.checkpoints.saving import Checkpoints
from trainers.checkpoints.state import LoopState
from trainers.parallel import collectives


class Engine:
    """As DeepSpeed's is without ZeRO, in fp32: weights and optimizer are torch's."""

    def __init__(self, filled: float = 0.0, size: int = 30):
        self.module = nn.Sequential(nn.Linear(size, 1), nn.Linear(1, 3))
        self.module.register_buffer("table", torch.zeros(2, 3))
        self.module.register_buffer("count", torch.tensor(0))
        self.module.register_buffer("made_anew", torch.zeros(1), persistent=False)
        self.param_names = {value: name for name, value in self.module.named_parameters()}
        self.basic_optimizer = torch.optim.AdamW(self.module.parameters(), lr=0.0)
        self.optimizer = self.basic_optimizer
        self.fill(filled)

    def fill(self, number: float) -> None:
        """Every weight, and all that the optimizer keeps, becomes this number."""
        for parameter in self.module.parameters():
            parameter.data.fill_(number)
            parameter.grad = torch.zeros_like(parameter)
        self.basic_optimizer.step()
        for state in self.basic_optimizer.state.values():
            for value in state.values():
                value.fill_(number)
        for buffer in self.module.state_dict(keep_vars=True).values():
            buffer.detach().fill_(number)

    @property
    def numbers(self) -> set[float]:
        """What it is filled with: one number, unless it is a mixture."""
        tensors = list(self.module.state_dict().values())
        for state in self.basic_optimizer.state.values():
            tensors += state.values()
        return {number for tensor in tensors for number in tensor.unique().tolist()}

    def zero_optimization_stage(self) -> int:
        return 0

    def fp16_enabled(self) -> bool:
        return False


class World:
    """torch.distributed, of ranks that take turns."""

    def __init__(self) -> None:
        self.rank, self.workers = 0, 2
        self._sent: list[Any] = []

    def get_rank(self) -> int:
        return self.rank

    def get_world_size(self) -> int:
        return self.workers

    def broadcast_object_list(self, objects: list[Any], src: int) -> None:
        if self.rank == src:
            self._sent = list(objects)
        objects[:] = self._sent

    def all_gather_object(self, objects: list[Any], one: Any) -> None:
        objects[self.rank] = one


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()
    for module in (collectives, optimizer_fragments, restoring, saving):
        monkeypatch.setattr(module, "dist", made)
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    return made


class Training:
    """Two ranks whose weights are the number of the step."""

    def __init__(self, world: World, storage: Storage, kept: int = 2):
        self.world, self.draft = world, Draft(storage, "model/demo")
        self.engine = Engine()
        self.ranks = []
        for rank in (0, 1):
            world.rank = rank
            self.ranks.append(Checkpoints(self.engine, self.draft, kept, Notes()))

    def save(self, step: int) -> None:
        """Begins a checkpoint, and waits for it."""
        self.begin(step)
        for checkpoints in self.ranks:
            checkpoints.wait()

    def begin(self, step: int) -> None:
        self.engine.fill(step)
        for rank, checkpoints in enumerate(self.ranks):
            self.world.rank = rank
            checkpoints.save(LoopState(step=step, samples=8 * step))


def resumed(world: World, storage: Storage) -> tuple[int | None, list[str]]:
    """The step that a single worker goes on from, and what it says; its weights are that step's."""
    world.rank, world.workers = 0, 1
    engine, notes = Engine(-1.0), Notes()
    state = restore(engine, Draft(storage, "model/demo"), notes).state
    assert engine.numbers == {-1.0 if state is None else state.step}
    assert state is None or state.samples == 8 * state.step
    world.workers = 2
    return state and state.step, notes.lines


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage.at(str(tmp_path / "workspace"))
