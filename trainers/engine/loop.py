"""The training loop: one function for pretraining and fine-tuning, run by every rank.

The global batch is sacred: `batch_size` sequences go into every optimizer step, and the loss is
summed over targets and divided by the targets of the global batch. So the gradient is the same for
any number of workers, micro-batches and packing. Which samples they are follows from
`LoopState.samples`.
"""

import math
import time
from typing import Any

import torch
import torch.distributed as dist

from cluster.errors import UserError
from cluster.runs.progress import Progress
from trainers.checkpoints.saving import Checkpoints
from trainers.checkpoints.state import LoopState
from trainers.corpora.feeding.feed import Rows
from trainers.engine import attention, schedule, zero
from trainers.engine.anomalies import Watch
from trainers.engine.batches import Batches
from trainers.engine.compiling import compiled
from trainers.engine.job import Ended, Report, TrainJob
from trainers.engine.journal import Journal
from trainers.engine.stop_requests import Request, RequestSource, no_request
from trainers.engine.training_config import Training
from trainers.models import build
from trainers.models.export import export
from trainers.parallel import sequence_parallel
from trainers.parallel.topology import Topology
from trainers.tasks.task import Counts, Guess, Objective, Task


def train(
    job: TrainJob,
    progress: Progress,
    report: Report | None = None,
    request: RequestSource = no_request,
) -> dict[str, Any]:
    """Trains to the end and exports the model; returns its validation metrics and costs.

    torch.distributed is initialized. Every rank calls `report` after each evaluation. Where any
    rank is requested to save, or to stop, all save a checkpoint after the same step; to stop, they
    raise Ended.
    """
    entered, settings, task = time.monotonic(), job.settings, job.task()
    if not torch.cuda.is_available():
        torch.set_num_threads(settings.worker_cpus)  # its process may have served another job
    torch.manual_seed(job.seed)
    zero.joined_deepspeed()  # before the model is made, so that only imports are frozen
    objective = Objective(task.model(), task)
    _refuse_cut_batches(task, settings, dist.get_world_size())
    flops, parameters = task.flops(objective.model), build.parameter_count(objective.model)
    if settings.activation_checkpointing:
        build.recompute_activations(objective.model)
    precision = zero.resolve_precision(settings.precision)
    for part in build.parts(objective.model).values():
        attention.prepare(part, "cuda" if torch.cuda.is_available() else "cpu", precision)
    is_compiled = settings.compile and compiled(objective, progress)
    rank, workers = dist.get_rank(), dist.get_world_size()
    topology = Topology.of(rank, workers, settings.sp_size, settings.tp_size)
    engine = zero.engine(objective, settings, sequence_parallel.prepare(objective.model, topology))
    rows, validation = task.rows("train"), task.rows("validation")
    total_steps = schedule.steps(settings, len(rows))
    checkpoints = Checkpoints(engine, job.draft, settings.checkpoints_kept, progress)
    state = checkpoints.restore() or LoopState()
    clock = _Clock(state, settings)
    watch = Watch(settings, progress)
    metrics: dict[str, Any] = {}
    with (
        zero.swapping(engine),
        checkpoints,
        Journal(job.kept, settings, engine, state, progress, entered) as journal,
        Batches(task, settings, rows, job.seed, topology, flops) as batches,
    ):
        restore = journal.told_of(checkpoints.restore, state)
        while state.fraction < 1:
            clock.request = request()
            loss = _step(engine, job, topology, batches, state, total_steps, clock, watch)
            watch.after(engine, state, loss, restore)
            found, saved = None, False
            if int(state.fraction * settings.evaluations) > state.evaluations:
                state.evaluations = int(state.fraction * settings.evaluations)
                with journal.spent("evaluation"):
                    found = metrics = evaluate(engine, task, settings, topology, validation)
                if rank == 0:
                    progress.line(_describe(state, metrics))
                if report is not None:
                    report({**metrics, "evaluation": state.evaluations})
            if clock.checkpoint_is_due and state.fraction < 1:
                with journal.spent("checkpoint"):
                    checkpoints.save(state)
                saved = True
            line = journal.step(state, loss, found, saved)
            if line is not None and rank == 0:
                progress.update(round(state.fraction * 100, 1), 100.0, "%", **_shown(line))
            if clock.request is Request.STOP and state.fraction < 1:
                checkpoints.wait()
                if rank == 0 and job.draft is not None:
                    progress.line(f"left a checkpoint after step {state.step:,}")
                raise Ended(f"stopped as requested, after step {state.step:,}")
            checkpoints.raise_failure()
        guess = task.guess(validation)
        is_worse = guess.is_better_than(metrics)
        if is_worse and rank == 0:
            progress.line(_warning(guess, metrics))
        if job.draft is not None:
            with journal.spent("export"):
                export(engine, objective.model, task.tokenizer(), job.draft)
        costs = journal.end(state)
    return {
        **metrics,
        "worse_than_guessing": is_worse,
        "steps": state.step,
        "samples": state.samples,
        "tokens": state.tokens,
        "train_seconds": round(state.seconds, 1),
        "tokens_per_second": round(state.tokens / state.seconds),
        "data_wait": round(state.data_wait, 4),
        **costs,
        "parameters": parameters,
        "skipped_steps": state.skipped_steps,
        "rollbacks": state.rollbacks,
        "left_out": state.left_out,
        "precision": precision,
        "compiled": is_compiled,
        "workers": workers,
    }


def _refuse_cut_batches(task: Task, settings: Training, workers: int) -> None:
    """Raises UserError where a batch of coupled samples would be cut, which changes their loss."""
    is_cut = workers > 1 or settings.micro_batch_size < settings.batch_size
    if task.rows_are_coupled and is_cut:
        raise UserError(
            f"{settings.section}.micro_batch_size: this task compares the samples of a batch, so "
            f"one worker must take batch_size = {settings.batch_size} at once; found "
            f"micro_batch_size = {settings.micro_batch_size} and {workers} workers"
        )


def _step(
    engine: Any,
    job: TrainJob,
    topology: Topology,
    batches: Batches,
    state: LoopState,
    total_steps: int,
    clock: "_Clock",
    watch: Watch,
) -> float:
    """One optimizer step on one global batch; returns this rank's part of the batch's mean loss."""
    settings = job.settings
    engine.train()
    # Dropout follows from the step, not from how often the run was resumed.
    torch.manual_seed(hash((job.seed, state.step, dist.get_rank())) & (2**63 - 1))
    share, waited = batches.at(state.samples, is_last=state.step + 1 == total_steps)
    rank = dist.get_rank()
    waits = [waited if one == rank else 0.0 for one in range(dist.get_world_size())]
    requests = [clock.request is Request.SAVE, clock.request is Request.STOP]
    agreed = torch.tensor(
        [
            share.targets,
            share.tokens,
            share.flops,
            clock.seconds if rank == 0 else 0.0,
            *requests,
            *waits,
        ],
        dtype=torch.float64,
        device=engine.device,
    )
    # One exchange a step: targets, tokens, FLOPs, rank 0's clock, requests, waits.
    dist.all_reduce(agreed)
    all_targets, all_tokens, all_flops, seconds, saves, stops, *waits = agreed.tolist()
    clock.request = Request.STOP if stops else Request.SAVE if saves else Request.NOTHING
    all_targets = max(all_targets, 1.0)  # masks may have left nothing to learn
    for group in engine.optimizer.param_groups:
        group["lr"] = schedule.rate(settings, state.fraction, 1 / total_steps)
    loss_sum = torch.zeros((), dtype=torch.float64, device=engine.device)
    for number, (batch, weight) in enumerate(share.micro_batches, start=1):
        loss, _ = engine({name: value.to(engine.device) for name, value in batch.items()})
        loss_sum += loss.detach() * weight * topology.counts_loss
        if number == len(share.micro_batches):
            weight *= watch.factor(state, loss_sum, all_targets)
        # DeepSpeed averages over workers or groups; the global mean is over targets.
        weight *= zero.averaged_over(settings, topology) / all_targets
        engine.backward(loss * weight, scale_wrt_gas=False)
        engine.step()
    state.step += 1
    state.samples += settings.batch_size
    state.tokens += int(all_tokens)
    state.flops += all_flops
    state.seconds = seconds
    state.data_wait_seconds += max(waits)  # the slowest holds all up
    by_clock = seconds / (settings.max_minutes * 60) if settings.max_minutes else 0.0
    state.fraction = min(1.0, max(state.step / total_steps, by_clock))
    return float(loss_sum) / all_targets


@torch.no_grad()
def evaluate(
    engine: Any, task: Task, settings: Training, topology: Topology, rows: Rows
) -> dict[str, float]:
    """Metrics over all rows, which the ranks share; the same on every rank."""
    engine.eval()
    every = torch.arange(len(rows)).numpy()
    by_length = every[rows.lengths(every).argsort(kind="stable")]
    size = settings.micro_batch_size * 2  # without gradients there is room for more
    rounds = math.ceil(len(rows) / (size * topology.dp_size))
    counts: Counts = {}
    for number in range(rounds):
        taken = by_length[(number * topology.dp_size + topology.dp_rank) * size :][:size]
        is_surplus = len(taken) == 0  # ZeRO-3 needs every rank in every forward
        taken = by_length[:1] if is_surplus else taken
        batch = task.collate(rows.take(taken), [int(index) for index in taken])
        loss, further = engine({name: value.to(engine.device) for name, value in batch.items()})
        targets = task.targets(batch) if topology.is_first_of_group else 0.0
        own = {"loss": loss, "targets": torch.tensor(targets, dtype=torch.float64), **further}
        weight = 0.0 if is_surplus or not topology.counts_loss else 1.0
        for name, value in own.items():
            value = value.detach().to(engine.device, torch.float64) * weight
            counts[name] = counts[name] + value if name in counts else value
    return task.metrics(_summed(counts))


def _summed(counts: Counts) -> Counts:
    """Over all ranks, which have counts of the same names and shapes; on the CPU."""
    together = torch.cat([value.flatten() for value in counts.values()])
    dist.all_reduce(together)
    parts = together.cpu().split([value.numel() for value in counts.values()])
    return {
        name: part.reshape(value.shape)
        for (name, value), part in zip(counts.items(), parts, strict=True)
    }


class _Clock:
    """Training time over all restarts, and what is due."""

    def __init__(self, state: LoopState, settings: Training):
        self._began = time.monotonic() - state.seconds
        self._last: dict[str, float] = {"checkpoint": state.seconds}
        self._checkpoint_s = settings.checkpoint_minutes * 60
        self._checkpoint_steps = settings.checkpoint_steps
        self._state = state
        self.request = Request.NOTHING
        """Before a step this rank, after it any one."""

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def is_due(self, what: str, interval_s: float) -> bool:
        # By the agreed time: every rank must come to the same answer.
        if self._state.seconds - self._last[what] < interval_s:
            return False
        self._last[what] = self._state.seconds
        return True

    @property
    def checkpoint_is_due(self) -> bool:
        steps = self._checkpoint_steps
        by_steps = steps is not None and self._state.step % steps == 0
        is_requested = self.request is not Request.NOTHING
        return self.is_due("checkpoint", 0.0 if by_steps or is_requested else self._checkpoint_s)


def _shown(line: dict[str, Any]) -> dict[str, Any]:
    """What of a line of metrics is seen while training goes on."""
    names = ("step", "loss", "tokens_per_second", "mfu", "data_wait")
    return {name: line[name] for name in names if name in line}


def _describe(state: LoopState, metrics: dict[str, float]) -> str:
    shown = "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())
    return f"step {state.step:,} ({state.fraction:.0%}): validation {shown}"


def _warning(guess: Guess, metrics: dict[str, float]) -> str:
    return (
        f"warning: validation {guess.metric} {metrics[guess.metric]:.4f} is worse than guessing, "
        f"{guess.value:.4f} ({guess.name}): set a lower learning_rate, or train for longer"
    )
