"""What a training records while it goes on: metrics, where its time went, its trackers.

    work/TRAINING/metrics.jsonl    a line about once a second, strictly increasing in `step`
    work/TRAINING/ledger.jsonl     see cluster.runs.ledger

Both go on over restarts and later commands, and are published with the model. Of steps that were
done again `metrics.jsonl` has the last time only, the ledger both.
"""

import dataclasses
import math
import resource
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Self

import torch
import torch.distributed as dist

from cluster.runs.ledger import COMPUTE, Ledger
from cluster.runs.progress import Progress
from cluster.runs.stored_journals import LEDGER, METRICS
from cluster.store.jsonl import Lines
from trainers.checkpoints.state import LoopState
from trainers.engine import flops
from trainers.engine.job import TrainJob
from trainers.engine.trackers import Trackers, TrainingInfo, values

INTERVAL_S = 1.0
MOST_FREQUENT_LINES = 3600
"""Then lines come less often, as a training grows long: a week has some 20,000."""
GB = 1e9


class Journal:
    """Every rank has one and calls it alike; rank 0 writes. Nothing is written where the job has no
    JournalConfig, but it still counts. A context: leaving it brings all lines to storage."""

    _since: LoopState
    """The state at the last line."""
    _loss_sum: float
    _steps: int

    def __init__(
        self,
        job: TrainJob,
        engine: Any,
        state: LoopState,
        progress: Progress,
        entered: float,
    ):
        """`entered` is when this process began to set the training up, by the monotonic clock."""
        config, settings, draft = job.journal, job.settings, job.draft
        self._draft, self._engine, self._entered = draft, engine, entered
        self._peak_flops = flops.peak(settings, engine.device) if config is not None else None
        """A second, of all workers."""
        self._is_first = True
        self._waited_s = state.data_wait_seconds
        self._flops = self._seconds = 0.0
        """Of all lines."""
        self._files: dict[str, Lines] = {}
        self._trackers: Trackers | None = None
        if config is not None and draft is not None and dist.get_rank() == 0:
            storage, work = draft.storage, draft.work
            self._files = {name: Lines(storage, f"{work}/{name}") for name in (METRICS, LEDGER)}
            self._files[METRICS].keep(lambda line: line["step"] <= state.step)
            info = TrainingInfo(
                config.recipe,
                settings.section,
                draft.id.partition("/")[2],
                storage,
                state.step,
                settings.model_dump(mode="json", exclude_unset=True),
            )
            self._trackers = Trackers(config.trackers, info, progress)
        self.ledger = Ledger(self._files.get(LEDGER))
        if config is not None:
            self.ledger.command(config.began)
        self._begin_line(state)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for lines in self._files.values():
            lines.close()
        if self._trackers is not None:
            self._trackers.close()

    def spent(self, part: str) -> AbstractContextManager[None]:
        """Counts the block's time as this part of the ledger, not as computing."""
        return self.ledger.spent(part)

    def rolled_back(self, step: int, state: LoopState) -> None:
        """The weights are again those of an earlier step: what was done since is lost."""
        self.ledger.back(step)
        self._begin_line(state)

    def step(
        self,
        state: LoopState,
        loss: float,
        validation: Mapping[str, float] | None = None,
        saved: bool = False,
    ) -> dict[str, Any] | None:
        """A step is done; `loss` is this rank's part of the batch's.

        Returns a line of metrics about once a second, and whenever there is a validation or a
        checkpoint: on every rank at the same steps, with rank 0's times.
        """
        self._loss_sum += loss
        self._steps += 1
        self.ledger.add("data_wait", state.data_wait_seconds - self._waited_s)
        self._waited_s = state.data_wait_seconds
        if self._is_first:
            setup_s = round(time.monotonic() - self._entered, 2)
            self.ledger.start(self._since.step, workers=dist.get_world_size(), setup_s=setup_s)
            self._since, self._is_first = dataclasses.replace(state), False
        # By the agreed time: every rank must come to the same answer.
        interval_s = max(INTERVAL_S, state.seconds / MOST_FREQUENT_LINES)
        is_due = state.seconds - self._since.seconds >= interval_s
        if not (is_due or validation or saved or state.fraction >= 1):
            return None
        line = self._line(
            state, self.ledger.steps(state.step, **({"saved": True} if saved else {}))
        )
        if validation:
            line["validation"] = {
                name: value if math.isfinite(value) else None for name, value in validation.items()
            }
        self._begin_line(state)
        if self._trackers is not None:
            self._files[METRICS].append(line)
            self._trackers.log(state.step, values(line))
            if saved:  # a run that resumes from there finds all lines until then
                for lines in self._files.values():
                    lines.save()
        return line

    def end(self, state: LoopState) -> dict[str, Any]:
        """After the export: what the whole came to. The files go into the model's folder."""
        self.ledger.steps(state.step)
        if self._draft is not None and self._files:
            with self._draft.folder() as folder:
                for name, lines in self._files.items():
                    (folder / name).write_bytes(lines.content())
        costs = self.ledger.account.as_metrics()
        if self._peak_flops is not None and self._seconds > 0:
            costs["mfu"] = round(self._flops / self._seconds / self._peak_flops, 4)
        return costs

    def _begin_line(self, state: LoopState) -> None:
        self._since = dataclasses.replace(state)
        self._loss_sum, self._steps = 0.0, 0

    def _line(self, state: LoopState, spent: Mapping[str, float]) -> dict[str, Any]:
        loss, rss_gb, gpu_gb = self._over_ranks()
        line: dict[str, Any] = {
            "step": state.step,
            "time": round(time.time(), 3),
            "samples": state.samples,
            "tokens": state.tokens,
            "loss": _finite(loss),
            "learning_rate": self._engine.optimizer.param_groups[0]["lr"],
        }
        norm = self._engine.get_global_grad_norm()
        if norm is not None:  # DeepSpeed does not tell it at ZeRO stage 0 in fp32
            line["gradient_norm"] = _finite(float(norm))
        data_wait_s = spent.get("data_wait", 0.0)
        seconds = spent.get(COMPUTE, 0.0) + data_wait_s
        tokens = state.tokens - self._since.tokens
        if tokens and seconds > 0:
            line["tokens_per_second"] = round(tokens / seconds, 1)
            line["data_wait"] = round(data_wait_s / seconds, 4)
            if self._peak_flops is not None:
                done = state.flops - self._since.flops
                line["mfu"] = round(done / seconds / self._peak_flops, 4)
                self._flops, self._seconds = self._flops + done, self._seconds + seconds
        if state.skipped_steps:
            line |= {"skipped_steps": state.skipped_steps, "rollbacks": state.rollbacks}
        if "checkpoint" in spent:
            line["checkpoint_s"] = round(spent["checkpoint"], 3)
        line["rss_peak_gb"] = round(rss_gb, 3)
        if gpu_gb:
            line["gpu_peak_gb"] = round(gpu_gb, 3)
        line["goodput"] = round(self.ledger.account.goodput, 4)
        return line

    def _over_ranks(self) -> tuple[float, float, float]:
        """The batch's mean loss, and the most memory of a rank, in GB, and of a GPU."""
        device = self._engine.device
        gpu = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
        rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        by_rank = torch.zeros(dist.get_world_size(), 3, dtype=torch.float64)
        by_rank[dist.get_rank()] = torch.tensor([self._loss_sum / self._steps, rss / GB, gpu / GB])
        by_rank = by_rank.to(device)
        dist.all_reduce(by_rank)
        return float(by_rank[:, 0].sum()), float(by_rank[:, 1].max()), float(by_rank[:, 2].max())


def _finite(value: float) -> float | None:
    """JSON has no infinity."""
    return round(value, 6) if math.isfinite(value) else None
