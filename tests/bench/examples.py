"""Millions of short labelled rows to the splits of the stage `examples`, by the command that a user
runs: rows a second, and the most memory of any of its processes.

The rows are 20 to 40 characters long, of 20 labels, in four files of JSONL; one in fifty is a copy
of another. `EXAMPLES_ROWS` sets how many there are, 5 million by default.
"""

import functools
import json
import os
import random
import sys
import tempfile
from pathlib import Path

from tests.bench import commands
from tests.bench.harness import Metric, main

ROWS = int(os.environ.get("EXAMPLES_ROWS", "5_000_000"))
FILES, LABELS, COPIES = 4, 20, 50
LETTERS = "的一是在不了有和人这中大为上个国我以要他时来用们生到作地于出就分对成会可主发年动同工也"
RECIPE = """\
name: examples
corpora:
  sources: {{rows: {{path: "{folder}/*.jsonl"}}}}
finetune: {{base: some/model}}
"""


def write_rows(folder: Path) -> None:
    drawn = random.Random(17)
    before = ["这是一个开始"] * 1000
    for file in range(FILES):
        with (folder / f"{file}.jsonl").open("w", encoding="utf-8") as stream:
            for number in range(ROWS // FILES):
                text = "".join(drawn.choices(LETTERS, k=drawn.randrange(20, 40)))
                text = before[number % 1000] if number % COPIES == 0 else text
                before[number % 1000] = text
                label = f"label {sum(map(ord, text)) % LABELS}"
                stream.write(json.dumps({"text": text, "label": label}, ensure_ascii=False) + "\n")


@functools.cache
def measured() -> commands.Run:
    with tempfile.TemporaryDirectory(prefix="raymill-") as name:
        folder = Path(name)
        write_rows(folder)
        recipe = folder / "recipe.yaml"
        recipe.write_text(RECIPE.format(folder=folder), encoding="utf-8")
        where = ("--workspace", str(folder / "mill"), "--json")
        found = commands.run("-m", "cluster", "run", str(recipe), "--until", "examples", *where)
    for at, line in found.lines:
        print(f"{at:6.1f} {line}", end="", file=sys.stderr)
    return found


METRICS = [
    Metric("examples_rows_per_second", "rows/s", lambda: ROWS / measured().seconds),
    Metric("examples_rss", "GB", lambda: measured().peak_bytes / 1e9, goal="< 1.5"),
]

if __name__ == "__main__":
    main("examples", METRICS, ("ray", "pyarrow", "numpy"))
