"""`raymill shard` on 60 MB of text beside its peers, and beside itself on ten times the text.

All sides are commands of their own, from start to end, on two cores: raymill's time has the start
of its Ray in it, unless it is told of one that runs, as on a cluster.
"""

import atexit
import contextlib
import functools
import itertools
import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cluster.ray.session import connected
from tests.bench import commands, texts
from tests.bench.peers import LENGTH
from trainers.corpora.config import Tokenizer
from trainers.corpora.tokens import tokenizer

TIMES = 10
"""As much text, to see what grows with it."""
RECIPE = """\
name: bench
cluster: {{cpus: 2}}
corpora:
  sources: {sources}
  decontaminate: null
  clean: {clean}
  deduplicate: {deduplicate}
  tokenizer: {{base: "{folder}/tokenizer"}}
  sequence_length: {length}
"""


class Repeated:
    """A measurement that several metrics are taken from: the nth call of each gets the nth."""

    def __init__(self, measure: Callable[[], Any]):
        self._measure, self._made = measure, []

    def taken(self, pick: Callable[[Any], Any]) -> Callable[[], Any]:
        turns = itertools.count()

        def take() -> Any:
            turn = next(turns)
            while len(self._made) <= turn:
                self._made.append(self._measure())
            return pick(self._made[turn])

        return take


@functools.cache
def folder() -> Path:
    """The texts and a tokenizer; gone when the bench ends."""
    made = Path(tempfile.mkdtemp(prefix="raymill-bench-"))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    (made / "bytes").write_text(str(texts.write_corpus(made / "texts")))
    sample = [*texts.chinese()[:4000], *texts.english()[:4000]]
    tokenizer.train(sample, Tokenizer(), LENGTH).save_pretrained(made / "tokenizer")
    return made


def megabytes() -> float:
    return int((folder() / "bytes").read_text()) / 1e6


@functools.cache
def running_ray() -> tuple[str, ...]:
    """Options that name a Ray of two CPUs, which runs until the bench ends."""
    stack = contextlib.ExitStack()
    atexit.register(stack.close)
    stack.enter_context(connected(None, cpus=2))
    import ray

    return ("--address", ray.get_runtime_context().gcs_address)


def shard(
    deduplicate: str = "{}",
    clean: str = "{}",
    kinds: Sequence[str] = ("text", "copies"),
    ray: tuple[str, ...] = (),
) -> commands.Run:
    sources = {kind: {"path": f"{folder()}/*/{kind}-*.jsonl"} for kind in kinds}
    with tempfile.TemporaryDirectory(dir=folder()) as place:
        recipe = Path(place) / "bench.yaml"
        recipe.write_text(
            RECIPE.format(
                sources=json.dumps(sources),
                clean=clean,
                deduplicate=deduplicate,
                folder=folder(),
                length=LENGTH,
            ),
            "utf-8",
        )
        options = ("--workspace", f"{place}/workspace", "--json")
        return commands.run("-m", "cluster", "shard", str(recipe), *options, *ray)


def shard_and_datasets(ray: tuple[str, ...] = ()) -> tuple[float, float]:
    """Megabytes of text a second, to packed token files."""
    ours = shard(ray=ray)
    with tempfile.TemporaryDirectory(dir=folder()) as out:
        peer = commands.run("-m", "tests.bench.peers", "datasets", f"{folder()}/texts",
                            f"{folder()}/tokenizer", out)  # fmt: skip
    return megabytes() / ours.seconds, megabytes() / peer.seconds


def dedup_and_datatrove(ray: tuple[str, ...] = ()) -> dict[str, tuple[float, float]]:
    """Megabytes of text a second until it is known which documents stay, and recall of the copies;
    datatrove has written those documents then, raymill has yet to tokenize them."""
    ours = shard("{similarity: 0.4}", "{mojibake: true, mask: [email, phone, id_number]}", ray=ray)
    with tempfile.TemporaryDirectory(dir=folder()) as out:
        peer = commands.run("-m", "tests.bench.peers", "datatrove", f"{folder()}/texts", out)
        kept = {
            json.loads(line)["id"]
            for path in Path(out, "kept").glob("*.jsonl")
            for line in path.open(encoding="utf-8")
        }
    copies = [
        json.loads(line)["id"].removeprefix("copy-")
        for path in (folder() / "texts").glob("copies-*.jsonl")
        for line in path.open(encoding="utf-8")
    ]
    both_kept = sum(f"copy-{number}" in kept and f"text-{number}" in kept for number in copies)
    counts = ours.answer["stages"][0]["metrics"]["sources"]["copies"]
    return {
        "speed": (megabytes() / ours.when("documents, dropped:"), megabytes() / peer.seconds),
        "recall": (1 - counts["kept"] / counts["read"], 1 - both_kept / len(copies)),
    }


def grown() -> dict[str, tuple[float, float]]:
    """Documents a second of the stage, without the start of Ray but with that of its workers, and
    the bytes of the largest process; of ten times the text, and of the text."""
    further = folder() / "further"  # where the peers do not look
    if not further.exists():
        texts.write_further(further, TIMES - 1)
    kinds = ("text", "copies")
    runs = [shard("{similarity: 0.4}", kinds=(*kinds, *more)) for more in (("further",), ())]
    stages = [run.answer["stages"][0] for run in runs]
    read = [
        sum(source["read"] for source in stage["metrics"]["sources"].values()) for stage in stages
    ]
    more, less = (count / stage["seconds"] for count, stage in zip(read, stages, strict=True))
    return {"throughput": (more, less), "rss": (runs[0].peak_bytes, runs[1].peak_bytes)}


dedup = Repeated(dedup_and_datatrove)
scale = Repeated(grown)
