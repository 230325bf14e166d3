"""The state of the loop."""

import dataclasses


@dataclasses.dataclass
class LoopState:
    """All that a checkpoint keeps besides weights and optimizer."""

    step: int = 0
    samples: int = 0
    """Consumed since training began: the whole data state."""
    tokens: int = 0
    flops: float = 0.0
    seconds: float = 0.0
    """Spent training, over all restarts."""
    data_wait_seconds: float = 0.0
    """Of these, how long steps waited for their batch."""
    fraction: float = 0.0
    """Of the training done, by samples or by the clock, whichever is further."""
    evaluations: int = 0
    losses: list[float] = dataclasses.field(default_factory=list)
    """Of the last steps, where spikes are looked for."""
    anomalies: list[int] = dataclasses.field(default_factory=list)
    """Which of the last steps were not taken."""
    skipped_steps: int = 0
    rollbacks: int = 0
    left_out: list[list[int]] = dataclasses.field(default_factory=list)
    """Consumed samples that the weights have not learned from: [first, one behind the last]."""

    @property
    def data_wait(self) -> float:
        """Share of the training time."""
        return self.data_wait_seconds / max(self.seconds, 1e-9)
