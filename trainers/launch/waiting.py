"""How long a training, or the trainings of a search, wait for nodes with room for their workers."""

import dataclasses
import time
from collections.abc import Mapping

from cluster.errors import InfrastructureError
from cluster.ray.resources import concurrent
from cluster.runs.progress import Progress

INTERVAL_S = 5.0
"""How often the nodes of the cluster are counted."""


@dataclasses.dataclass
class WaitForNodes:
    what: str
    """What waits, as the user knows it: "training" or "search"."""
    minutes: float
    """As cluster.wait_for_node_minutes allows."""
    workers: int
    each: Mapping[str, float]
    """What a worker holds, such as {"CPU": 4.0}."""
    since: float | None = None
    """None while there is room."""
    _counted_at: float = -INTERVAL_S

    def count_nodes(self, progress: Progress) -> None:
        """Notes whether the nodes that are alive have room; called often while something else
        waits. Raises InfrastructureError where they had none for too long."""
        import ray

        if time.monotonic() - self._counted_at < INTERVAL_S:
            return
        self._counted_at = time.monotonic()
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if sum(concurrent(self.each, node, self.workers) for node in nodes) >= self.workers:
            self.since = None
        else:
            self.go_on(progress)

    def go_on(self, progress: Progress) -> None:
        """There is no room. Raises InfrastructureError where there was none for too long."""
        now = time.monotonic()
        if self.since is None:
            self.since = now
            progress.line("waits for nodes with room for its workers")
        if now - self.since > self.minutes * 60:
            each = " and ".join(f"{amount:g} {name}s" for name, amount in self.each.items())
            raise InfrastructureError(
                f"{self.what} gave up: no node had room for its workers within "
                f"cluster.wait_for_node_minutes = {self.minutes:g}; bring back nodes with room for "
                f"{self.workers} x {each} and run again to go on, or set more minutes"
            )
