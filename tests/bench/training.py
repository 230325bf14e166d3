"""Training: its speed beside others (steady.py), its memory, and what a plan is off (memory.py).

About half an hour on two cores, which must be quiet.
"""

import functools
import json
import os
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

from cluster.runs import stored_journals
from tests.bench import commands, steady
from tests.bench.harness import Metric, main
from tests.bench.memory import large_vocabulary_memory, plan_error
from tests.growing import whole_lines
from tests.integration.command import Command


def speed(stage: int = 0, workers: int = 1) -> float:
    return steady.run_ours(steady.ours, workers, stage)["tokens_per_second"]


def vs_raw_loop() -> tuple[float, float]:
    return speed(), steady.run(steady.by_hand)


def vs_hf_trainer() -> tuple[float, float]:
    return speed(), steady.run(steady.hugging_face)


def mfu() -> tuple[float, float]:
    return speed() * steady.flops_of_a_token(), steady.run(steady.peak_flops)


def sharded_vs_single(stage: int) -> tuple[float, float]:
    return speed(stage, workers=2), speed()


def data_wait() -> float:
    return steady.run_ours(steady.ours, 1, 0)["data_wait"]


def first_step_s() -> float:
    """From the command `pretrain` to the first report of a step, which comes within a second of it;
    with a Ray of its own and two workers. The corpus is there."""
    with tempfile.TemporaryDirectory(prefix="raymill-") as workspace:
        given = ["tiny-llama", "--workspace", workspace, "--json"]
        commands.run("-m", "cluster", "shard", *given)
        began = time.time()
        run = commands.run("-m", "cluster", "pretrain", *given, "--set=pretrain.max_minutes=0.1")
        model = run.answer["stages"][-1]["artifact"]
        (first, *_) = (
            (Path(workspace) / model / stored_journals.METRICS).read_text("utf-8").splitlines()
        )
        return json.loads(first)["time"] - began


def restart_s() -> float:
    """From the kill of one of two workers to the first step of the next two; of `tiny-llama`."""
    killed, again = _restarted()
    return again["at"] - killed


def restart_setup_s() -> float:
    """What of `restart_s` the first of the new workers spends in raymill's training, to the end of
    the step, with waiting for the other; before that Ray sees the loss, starts processes, and they
    import."""
    return _restarted()[1]["setup_s"]


@functools.cache
def _restarted() -> tuple[float, dict[str, Any]]:
    """When a worker was killed, and what the ledger says of the next two's first step."""
    with tempfile.TemporaryDirectory(prefix="raymill-") as workspace:
        given = ["tiny-llama", "--workspace", workspace]
        commands.run("-m", "cluster", "shard", *given, "--json")
        command = Command("pretrain", *given, "--set=pretrain.checkpoint_steps=10")
        try:
            command.until(lambda: list(Path(workspace).glob("work/*/step-*/record.json")))
            (ledger,) = Path(workspace).glob(f"work/*/{stored_journals.LEDGER}")
            os.kill(command.training_workers()[0], signal.SIGKILL)
            killed = time.time()
            (_, again) = command.until(lambda: _starts(ledger) if len(_starts(ledger)) > 1 else [])
            return killed, again
        finally:
            command.end()


def _starts(ledger: Path) -> list[dict[str, Any]]:
    """The first step of each group of workers."""
    return [entry for entry in whole_lines(ledger) if entry["what"] == "start"]


# fmt: off
METRICS = (
    Metric("vs_raw_loop", "x tokens/s", vs_raw_loop, ">= 0.95", "a loop by hand"),
    Metric("vs_hf_trainer", "x tokens/s", vs_hf_trainer, ">= 1.2", "Hugging Face Trainer"),
    Metric("mfu", "share of FLOP/s", mfu, ">= 0.55", "bf16 matrix products"),
    Metric("zero1_vs_single", "x tokens/s", functools.partial(sharded_vs_single, 1), ">= 0.90",
           "one process"),
    Metric("zero2_vs_single", "x tokens/s", functools.partial(sharded_vs_single, 2), ">= 0.85",
           "one process"),
    Metric("zero3_vs_single", "x tokens/s", functools.partial(sharded_vs_single, 3), ">= 0.75",
           "one process"),
    Metric("first_step_s", "s", first_step_s, "< 30"),
    Metric("restart_s", "s", restart_s, "<= 25"),
    Metric("restart_setup_s", "s", restart_setup_s, "<= 5"),
    Metric("data_wait", "share of the time", data_wait, "< 0.01"),
    Metric("large_vocabulary_memory", "x bytes", large_vocabulary_memory, "<= 0.6",
           "a loss of whole logits"),
    Metric("plan_error", "share of the peak", plan_error, "<= 0.15"),
)
# fmt: on

if __name__ == "__main__":
    main("training", METRICS, ("raymill", "torch", "deepspeed", "transformers", "ray"))
