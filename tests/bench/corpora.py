"""Corpora: `raymill shard` beside its peers (endtoend.py), the quality of near deduplication
(neardup.py), packing and the speed of the feed.

Peers: `pip install -c constraints.txt -e '.[bench]'`. About a quarter of an hour on two cores.
"""

import atexit
import functools
import tempfile
import time
from operator import itemgetter

import numpy as np

from cluster.store.storage import Storage
from tests.bench import endtoend, neardup
from tests.bench.harness import Metric, main
from tests.packed import corpus_of
from trainers.corpora.tokens.pack import pack_documents
from trainers.models.build import Start
from trainers.tasks.pretraining.causal_lm import CausalLM

LENGTH = 512


def packing_efficiency() -> float:
    """Of real lengths: Chinese and English texts, a token a character."""
    texts = neardup.chinese() + neardup.english()
    documents = [np.zeros(len(text), dtype=np.uint16) for text in texts]
    table = pack_documents(documents, 1, 2, LENGTH, 0, 30_000)
    return sum(map(sum, table["piece_lengths"].to_pylist())) / (len(table) * LENGTH)


@functools.cache
def causal() -> CausalLM:
    """200,000 sequences in eight shards, about 100 M tokens."""
    folder = tempfile.TemporaryDirectory(prefix="raymill-")
    atexit.register(folder.cleanup)
    drawn = np.random.default_rng(17)
    shards = []
    for _ in range(8):
        documents = drawn.integers(5, 30_000, (25_000, LENGTH - 2), dtype=np.uint16)
        shards.append(pack_documents(list(documents), 1, 2, LENGTH, 0, 30_000))
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


# fmt: off
METRICS = (
    Metric("shard_vs_datasets", "x MB/s", endtoend.shard_and_datasets, ">= 1", "datasets"),
    Metric("dedup_vs_datatrove", "x MB/s", endtoend.dedup.taken(itemgetter("speed")),
           ">= 3", "datatrove"),
    Metric("dedup_recall_vs_datatrove", "x share", endtoend.dedup.taken(itemgetter("recall")),
           ">= 1", "datatrove"),
    Metric("scale_10x_throughput", "x documents/s", endtoend.scale.taken(itemgetter("throughput")),
           ">= 0.85", "a tenth of it"),
    Metric("scale_10x_rss", "x bytes", endtoend.scale.taken(itemgetter("rss")),
           "<= 1.1", "a tenth of it"),
    Metric("neardup_recall_5", "share", lambda: neardup.recall(0.05), ">= 0.95"),
    Metric("neardup_recall_10", "share", lambda: neardup.recall(0.1), ">= 0.90"),
    Metric("neardup_recall_20", "share", lambda: neardup.recall(0.2)),
    Metric("neardup_precision", "share", lambda: neardup.precision(neardup.SAME), ">= 0.98"),
    Metric("neardup_precision_nearly_equal", "share",
           lambda: neardup.precision(neardup.NEARLY_EQUAL)),
    Metric("packing_efficiency", "share", packing_efficiency, ">= 0.98"),
    Metric("feed_tokens_per_second", "tokens/s", feed_tokens_per_second, ">= 5e6"),
    Metric("feed_seek_ratio", "10 % / 90 %", feed_seek_ratio, "about 1"),
    Metric("shard_on_ray_vs_datasets", "x MB/s",
           lambda: endtoend.shard_and_datasets(endtoend.running_ray()), ">= 1", "datasets"),
    Metric("dedup_on_ray_vs_datatrove", "x MB/s",
           lambda: endtoend.dedup_and_datatrove(endtoend.running_ray())["speed"],
           ">= 3", "datatrove"),
)
# fmt: on

if __name__ == "__main__":
    main(
        "corpora", METRICS, ("raymill", "ray", "pyarrow", "numpy", "rensa", "datasets", "datatrove")
    )
