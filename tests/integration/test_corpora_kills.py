"""A stage of corpora that is killed goes on, and its result is the same bytes."""

import json
import os
import random
import re
import signal
from pathlib import Path

from tests.integration.command import until
from tests.reviews import edited, reviews

RECIPE = """\
name: killed
corpora:
  sources:
    reviews: {{path: "{data}/*.txt"}}
  deduplicate: {{similarity: 0.4}}
  validation: 0.05
  tokenizer: {{vocabulary_size: 1000}}
  sequence_length: 64
  shard_megabytes: 0.02
  concurrency: 1
"""


def written_recipe(tmp_path: Path) -> Path:
    """Six files of real reviews, with copies and edited copies of some in each."""
    drawn = random.Random(17)
    texts = list(dict.fromkeys(reviews()))[:900]
    for number in range(6):
        own = texts[number * 150 : (number + 1) * 150]
        copies = [edited(text, 0.05, drawn) for text in texts[:20]]
        (tmp_path / f"{number}.txt").write_text("\n".join(own + copies), "utf-8")
    path = tmp_path / "killed.yaml"
    path.write_text(RECIPE.format(data=tmp_path), "utf-8")
    return path


def made(workspace):
    (path,) = workspace.glob("corpus/killed-shard-*/manifest.json")
    manifest = json.loads(path.read_text("utf-8"))
    return manifest["files"], manifest["metrics"]


def test_it_goes_on_with_the_same_result(start, raymill_at_head, tmp_path):
    recipe_path, whole, killed = written_recipe(tmp_path), tmp_path / "whole", tmp_path / "killed"
    outcome = raymill_at_head("shard", str(recipe_path), "--workspace", str(whole))
    assert outcome.status == 0, outcome.stderr
    assert not list(whole.glob("work/*"))
    command = start("shard", str(recipe_path), "--workspace", str(killed))
    command.until(lambda: list(killed.glob("work/*/markers/pack/*.json"))[1:])
    for pid in command.processes():  # as when the machine goes
        os.kill(pid, signal.SIGKILL)
    until(lambda: not command.processes())
    assert not list(killed.glob("corpus/*"))
    outcome = raymill_at_head("shard", str(recipe_path), "--workspace", str(killed))
    assert outcome.status == 0, outcome.stderr
    assert "goes on after 6 of 6 parts cleaned" in outcome.stderr
    assert re.search(r"goes on after [1-9]\d* of \d+ shards packed", outcome.stderr)
    assert made(killed) == made(whole)
    assert not list(killed.glob("work/*"))
