"""What `chinese-sentiment` learns in the same minutes of pretraining with each objective: the
accuracy of what is fine-tuned from it, mean of three seeds.

The test texts are drawn by another seed than the recipe's own, so that nothing is chosen by the
figures in README. Each is run once, whatever `--repeats` says. Half an hour on two cores, which
must be quiet.
"""

import functools
import tempfile

from tests.bench import commands
from tests.bench.harness import Metric, main

MINUTES = 6
SHARED = {
    "seed": "1",
    "tune": "null",
    "pretrain.max_minutes": str(MINUTES),
    "finetune.evaluation": "{seeds: 3}",
}
REPLACED_TOKENS = {
    "pretrain.learning_rate": "1e-3",  # better than 5e-4 and 2e-3
    "pretrain.objective": "replaced_tokens",
    "pretrain.model.architecture": "electra",
    "pretrain.model.config": "{}",
    "pretrain.mask_probability": "0.15",  # of Clark et al. 2020, as is the generator's size
}


@functools.cache
def accuracy(**changed: str) -> float:
    """On the test split, after the recipe with these keys changed."""
    settings = [f"--set={key}={value}" for key, value in (SHARED | changed).items()]
    with tempfile.TemporaryDirectory(prefix="raymill-") as workspace:
        given = ["chinese-sentiment", "--workspace", workspace, *settings, "--json"]
        commands.run("-m", "cluster", "pretrain", *given)
        run = commands.run("-m", "cluster", "evaluate", *given)
        return run.answer["stages"][-1]["metrics"]["seeds"]["pretrained"]["mean"]


def beside(changed: dict[str, str]) -> tuple[float, float]:
    return accuracy(), accuracy(**changed)


# fmt: off
METRICS = (
    Metric("vs_replaced_tokens", "x accuracy", functools.partial(beside, REPLACED_TOKENS),
           ">= 1", "ELECTRA"),
    Metric("vs_whole_words", "x accuracy", functools.partial(beside, {
           "pretrain.whole_words": "true"}), ">= 1", "whole words masked"),
)
# fmt: on

if __name__ == "__main__":
    main("objectives", METRICS, ("raymill", "torch", "deepspeed", "transformers", "ray"))
