"""The training loop: one function for pretraining and fine-tuning, run by every rank.

The global batch is sacred: `batch_size` sequences go into every optimizer step, and the loss is
summed over targets and divided by the targets of the global batch. So the gradient is the same for
any number of workers, micro-batches and packing. `LoopState.samples` says which samples are next.
"""

import dataclasses
import math
import time
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from cluster.errors import UserError
from cluster.runs.progress import Progress, Silent
from trainers.checkpoints.saving import Checkpoints
from trainers.checkpoints.state import LoopState
from trainers.corpora.feeding.feed import Rows
from trainers.engine import attention, dropout, schedule, zero
from trainers.engine.anomalies import AnomalyWatch
from trainers.engine.batches import Batches
from trainers.engine.compiling import try_compile
from trainers.engine.job import Ended, Report, TrainJob
from trainers.engine.journal import Journal
from trainers.engine.stop_requests import Request, RequestSource, no_request
from trainers.engine.training_config import Training
from trainers.models import build, packed_attention
from trainers.models.export import export
from trainers.parallel import sequence_parallel
from trainers.parallel.topology import Topology
from trainers.tasks.flops import beside_frozen
from trainers.tasks.task import Batch, Counts, Guess, Objective, Task

if TYPE_CHECKING:
    from trainers.methods.rank_budget import RankBudget


def train(
    job: TrainJob,
    progress: Progress,
    report: Report | None = None,
    request: RequestSource = no_request,
) -> dict[str, Any]:
    """Trains to the end and exports the model; returns its validation metrics and costs.

    torch.distributed is initialized. Every rank calls `report` after each evaluation. Once any rank
    is requested to save or to stop, all save a checkpoint after the same step; to stop, they raise
    Ended.
    """
    entered, task = time.monotonic(), job.task()
    rank, workers = dist.get_rank(), dist.get_world_size()
    progress = progress if rank == 0 else Silent()
    device, job = _on_its_device(job)
    settings, precision = job.settings, job.settings.precision
    objective = Objective(task.model(), task)
    # A trial of a search, which keeps nothing, is not the one to tell of its base and the data.
    for remark in build.remarks(objective.model) if job.draft is not None else ():
        progress.line(remark)
    _refuse_cut_batches(task, settings, workers)
    flops, parameters = task.flops(objective.model), build.parameter_count(objective.model)
    adapted = None
    if settings.adapter is not None:
        # They import PEFT, for which a training without an adapter does not wait.
        from trainers.methods import saving
        from trainers.methods.adapt import adapt
        from trainers.methods.rank_budget import RankBudget

        adapted = adapt(objective.model, settings.adapter, device)
        flops, trained = beside_frozen(flops), build.trained_count(objective.model)
    if settings.activation_checkpointing:
        build.recompute_activations(objective.model)
    for part in build.parts(objective.model).values():
        attention.prepare(part, device.type)
        dropout.prepare(part, device.type)
        if settings.sp_size == 1:  # whose exchange is given a mask
            packed_attention.prepare(part, device, precision, settings.compile)
    is_compiled = settings.compile and try_compile(objective, device, progress)
    topology = Topology.of(rank, workers, settings.sp_size, settings.tp_size)
    engine = zero.engine(objective, settings, sequence_parallel.prepare(objective.model, topology))
    budget = RankBudget.of(engine, adapted) if adapted else None
    rows, validation = task.rows("train"), task.rows("validation")
    total_steps = schedule.steps(settings, len(rows))
    checkpoints = Checkpoints(engine, job.draft, settings.checkpoints_kept, progress)
    state = checkpoints.restore() or LoopState()
    clock, watch = _Clock(state, settings), AnomalyWatch(settings, progress)
    unlearned = task.unlearned() if rank == 0 and job.draft is not None else {}
    if unlearned:
        counted = ", ".join(f"{number:,} {what}" for what, number in unlearned.items())
        progress.line(f"training data: {counted}")
    metrics: dict[str, Any] = {}
    with (
        engine.swap,
        checkpoints,
        Journal(job, engine, state, progress, entered) as journal,
        Batches(task, settings, rows, job.seed, topology, flops) as batches,
    ):

        def roll_back() -> LoopState | None:
            restored = checkpoints.restore()
            if restored is not None:
                journal.rolled_back(restored.step, state)
            return restored

        while state.fraction < 1:
            clock.request = request()
            loss = _step(engine, job, topology, batches, state, total_steps, clock, watch, budget)
            watch.after_step(engine, state, loss, roll_back)
            evaluations, is_saved = int(state.fraction * settings.evaluations), False
            is_evaluated = evaluations > state.evaluations
            if is_evaluated:
                state.evaluations = evaluations
                with journal.spent("evaluation"):
                    metrics = evaluate(engine, task, settings, topology, validation)
                progress.line(_describe(state, metrics))
                if report is not None:
                    report({**metrics, "evaluation": state.evaluations})
            if clock.checkpoint_is_due and state.fraction < 1:
                with journal.spent("checkpoint"):
                    checkpoints.save(state)
                is_saved = True
            line = journal.step(state, loss, metrics if is_evaluated else None, is_saved)
            if line is not None:
                progress.update(round(state.fraction * 100, 1), 100.0, "%", **_shown(line))
            if clock.request is Request.STOP and state.fraction < 1:
                checkpoints.wait()
                if job.draft is not None:
                    progress.line(f"left a checkpoint after step {state.step:,}")
                # A rank that raises ends the others, and rank 0 is the last to have written.
                dist.all_reduce(torch.zeros(1))
                raise Ended(f"stopped as requested, after step {state.step:,}")
            checkpoints.raise_failure()
        guess = task.guess(validation)
        is_worse = guess.is_better_than(metrics)
        if is_worse:
            progress.line(_warning(guess, metrics))
        if job.draft is not None:
            with journal.spent("export"):
                if adapted is None:
                    export(engine, objective.model, task.tokenizer(), job.draft)
                else:
                    saving.export(engine, adapted, task.tokenizer(), job.draft, settings)
        costs = journal.end(state)
    return {
        **metrics,
        "worse_than_guessing": is_worse,
        **({"unlearned": unlearned} if unlearned else {}),
        **_totals(state),
        **costs,
        "parameters": parameters,
        **({"trained_parameters": trained} if adapted else {}),
        "precision": precision,
        "compiled": is_compiled,
        "workers": workers,
    }


def _on_its_device(job: TrainJob) -> tuple[torch.device, TrainJob]:
    """What this rank computes on, which is set up, and the job with the precision that all ranks
    compute in. Before the model: what exists is frozen for the garbage collector."""
    device = zero.rank_device(job.settings)
    # Its process may have served another job.
    torch.set_num_threads(job.settings.worker_cpus)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    torch.manual_seed(job.seed)
    zero.import_deepspeed(device)
    precision = zero.agreed_precision(job.settings, device)
    settings = job.settings.model_copy(update={"precision": precision})
    return device, dataclasses.replace(job, settings=settings)


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
    watch: AnomalyWatch,
    budget: "RankBudget | None",
) -> float:
    """One optimizer step on one global batch; returns this rank's part of the batch's mean loss."""
    settings, rank, workers = job.settings, dist.get_rank(), dist.get_world_size()
    engine.train()
    # Dropout follows from the step, not from how often the run was resumed.
    torch.manual_seed(hash((job.seed, state.step, rank)) & (2**63 - 1))
    share, waited_s = batches.at(state.samples, is_last=state.step + 1 == total_steps)
    sums = torch.tensor(
        [
            share.targets,
            share.tokens,
            share.flops,
            clock.seconds if rank == 0 else 0.0,
            clock.request is Request.SAVE,
            clock.request is Request.STOP,
            *(waited_s if other == rank else 0.0 for other in range(workers)),
        ],
        dtype=torch.float64,
        device=engine.device,
    )
    dist.all_reduce(sums)  # all that ranks exchange in a step, at once
    targets, tokens, flops, seconds, saves, stops, *waits_s = sums.tolist()
    clock.request = Request.STOP if stops else Request.SAVE if saves else Request.NOTHING
    targets = max(targets, 1.0)  # masks may have left nothing to learn
    for group in engine.optimizer.param_groups:
        rate = schedule.rate(settings, state.fraction, 1 / total_steps)
        group["lr"] = rate * group.get("rate_factor", 1.0)
    loss_sum = torch.zeros((), dtype=torch.float64, device=engine.device)
    # DeepSpeed averages over ranks; the global mean is over targets.
    scale = zero.gradient_divisor(settings, topology) / targets
    for number, (batch, weight) in enumerate(share.micro_batches, start=1):
        loss, _ = engine(_on(engine.device, batch))
        loss_sum += loss.detach() * weight * topology.counts_loss
        is_last = number == len(share.micro_batches)
        if is_last:
            weight *= watch.loss_factor(state, loss_sum, targets)
        learned = loss * (weight * scale)
        if is_last and budget is not None:
            learned = learned + budget.penalty
        engine.backward(learned, scale_wrt_gas=False)
        if is_last and budget is not None:
            budget.before_step()
        engine.step()
    state.step += 1
    state.samples += settings.batch_size
    state.tokens += int(tokens)
    state.flops += flops
    state.seconds = seconds
    state.data_wait_seconds += max(waits_s)  # all wait for the slowest
    by_clock = seconds / (settings.max_minutes * 60) if settings.max_minutes else 0.0
    state.fraction = min(1.0, max(state.step / total_steps, by_clock))
    if budget is not None:
        budget.after_step(state.step, state.fraction)
    return float(loss_sum) / targets


@torch.no_grad()
def evaluate(
    engine: Any, task: Task, settings: Training, topology: Topology, rows: Rows
) -> dict[str, float]:
    """Metrics over all rows, which the ranks share; the same on every rank."""
    engine.eval()
    indices = torch.arange(len(rows)).numpy()
    by_length = indices[rows.lengths(indices).argsort(kind="stable")]
    size = settings.micro_batch_size * 2  # without gradients there is room for more
    rounds = math.ceil(len(rows) / (size * topology.dp_size))
    counts: Counts = {}
    for number in range(rounds):
        chosen = by_length[(number * topology.dp_size + topology.dp_rank) * size :][:size]
        is_surplus = len(chosen) == 0  # ZeRO-3 needs every rank in every forward
        chosen = by_length[:1] if is_surplus else chosen
        batch = task.collate(rows.take(chosen), [int(index) for index in chosen])
        loss, further = engine(_on(engine.device, batch))
        targets = task.targets(batch) if topology.is_first_of_group else 0.0
        batch_counts = {
            "loss": loss,
            "targets": torch.tensor(targets, dtype=torch.float64),
            **further,
        }
        weight = 0.0 if is_surplus or not topology.counts_loss else 1.0
        for name, value in batch_counts.items():
            value = value.detach().to(engine.device, torch.float64) * weight
            counts[name] = counts[name] + value if name in counts else value
    return task.metrics(_summed(counts))


def _on(device: torch.device, batch: Batch) -> Batch:
    """The batch where the model is; from pinned memory while the GPU goes on with other work."""
    return {name: value.to(device, non_blocking=True) for name, value in batch.items()}


def _summed(counts: Counts) -> Counts:
    """Over all ranks, which have counts of the same names and shapes; on the CPU."""
    flat = torch.cat([value.flatten() for value in counts.values()])
    dist.all_reduce(flat)
    parts = flat.cpu().split([value.numel() for value in counts.values()])
    return {
        name: part.reshape(value.shape)
        for (name, value), part in zip(counts.items(), parts, strict=True)
    }


class _Clock:
    """Training time over all restarts, and when a checkpoint is due."""

    def __init__(self, state: LoopState, settings: Training):
        self._began = time.monotonic() - state.seconds
        self._saved_at = state.seconds
        self._settings, self._state = settings, state
        self.request = Request.NOTHING
        """Before a step this rank's, after it that of any rank."""

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    @property
    def checkpoint_is_due(self) -> bool:
        # By the agreed time: every rank must come to the same answer.
        by_time = self._state.seconds - self._saved_at >= self._settings.checkpoint_minutes * 60
        steps = self._settings.checkpoint_steps
        by_steps = steps is not None and self._state.step % steps == 0
        is_due = by_time or by_steps or self.request is not Request.NOTHING
        if is_due:
            self._saved_at = self._state.seconds
        return is_due


def _totals(state: LoopState) -> dict[str, Any]:
    return {
        "steps": state.step,
        "samples": state.samples,
        "tokens": state.tokens,
        "train_seconds": round(state.seconds, 1),
        "tokens_per_second": round(state.tokens / state.seconds),
        "data_wait": round(state.data_wait, 4),
        "skipped_steps": state.skipped_steps,
        "rollbacks": state.rollbacks,
        "left_out": state.left_out,
    }


def _shown(line: dict[str, Any]) -> dict[str, Any]:
    """What of a line of metrics is seen while training goes on."""
    names = ("step", "loss", "tokens_per_second", "mfu", "data_wait")
    return {name: line[name] for name in names if name in line}


def _describe(state: LoopState, metrics: dict[str, float]) -> str:
    text = "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())
    return f"step {state.step:,} ({state.fraction:.0%}): validation {text}"


def _warning(guess: Guess, metrics: dict[str, float]) -> str:
    return (
        f"warning: validation {guess.metric} {metrics[guess.metric]:.4f} is worse than guessing, "
        f"{guess.value:.4f} ({guess.name}): set a lower learning_rate, or train for longer"
    )
