"""LoRA beside full fine-tuning: MiniLM on the film reviews of sentiment.py, the accuracy of three
seeds of either (each repeat is another), at the learning rate of two that validates best.

A fifth of the sentences train, and 7,400 test, so that a point is more than chance. Ten minutes on
two cores.
"""

import functools
import itertools
import json
import sys
import tempfile
from pathlib import Path

from tests.bench import commands, minilm, sentiment
from tests.bench.harness import Metric, main

RATES = {"full": [1e-4, 2e-4], "lora": [1e-3, 2e-3]}
SPLIT = "{validation: 0.1, test: 0.7}"
EPOCHS = 2


@functools.cache
def accuracies(method: str) -> list[float]:
    """On the test split, of each seed."""
    choice = f"{{space: {{finetune.learning_rate: {{choice: {RATES[method]}}}}}, trials: 2"
    settings = {
        "corpora.split": SPLIT,
        "finetune.method": method,
        "finetune.epochs": str(EPOCHS),
        "finetune.evaluations": "1",
        "tune": f"{choice}, early_stopping: false, concurrent: 1}}",
    }
    given = [f"--set={key}={value}" for key, value in settings.items()]
    with tempfile.TemporaryDirectory(prefix="raymill-") as place:
        folder = Path(place)
        lines = (json.dumps(row) + "\n" for row in sentiment.rows(folder))
        (folder / "films.jsonl").write_text("".join(lines), "utf-8")
        recipe = folder / "recipe.yaml"
        of = {"folder": place, "base": minilm.base(), "seeds": sentiment.SEEDS}
        recipe.write_text(sentiment.RECIPE.format(**of), "utf-8")
        workspace = ["--workspace", str(folder / "mill")]
        run = commands.run("-m", "cluster", "evaluate", str(recipe), *workspace, *given, "--json")
    stages = {stage["stage"]: stage["metrics"] for stage in run.answer["stages"]}
    of_seeds = stages["evaluate"]["seeds"]["pretrained"]
    print(f"{method}: {of_seeds}, {stages['tune']}", file=sys.stderr)
    return of_seeds["values"]


seed = itertools.count()


def lora_vs_full() -> tuple[float, float]:
    number = next(seed) % sentiment.SEEDS
    return accuracies("lora")[number], accuracies("full")[number]


METRICS = (
    Metric("lora_vs_full", "x accuracy", lora_vs_full, ">= 0.99", "training of all weights"),
)

if __name__ == "__main__":
    main("lora_quality", METRICS, ("raymill", "torch", "deepspeed", "transformers", "peft", "ray"))
