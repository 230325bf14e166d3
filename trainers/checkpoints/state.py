"""All loop state: what a checkpoint keeps besides weights and optimizer."""

import dataclasses


@dataclasses.dataclass
class LoopState:
    """All that a run needs to go on besides weights and optimizer."""

    step: int = 0
    samples: int = 0
    """Consumed since training began: the whole data state."""
    tokens: int = 0
    seconds: float = 0.0
    """Spent training, over all restarts."""
    data_wait_seconds: float = 0.0
    """Of these, how long steps waited for their batch."""
    fraction: float = 0.0
    """Of the training done, by samples or by the clock, whichever is further."""
    evaluations: int = 0

    @property
    def data_wait(self) -> float:
        """Share of the training time."""
        return self.data_wait_seconds / max(self.seconds, 1e-9)
