"""Corpora: `raymill shard` beside its peers (endtoend.py), the quality of near deduplication
(neardup.py), packing and the speed of the feed.

Peers: `pip install -c constraints.txt -e '.[bench]'`. About a quarter of an hour on two cores.
"""

import functools
import tempfile
import time
from operator import itemgetter
from pathlib import Path

import numpy as np

from tests.bench import endtoend, neardup
from tests.bench.harness import Metric, main
from trainers.corpora.feed import Order, Packed
from trainers.corpora.pack import pack_documents, write_arrow

LENGTH = 512


def packing_efficiency() -> float:
    """Of real lengths: Chinese and English texts, a token a character."""
    texts = neardup.chinese() + neardup.english()
    documents = [np.zeros(len(text), dtype=np.uint16) for text in texts]
    table = pack_documents(documents, 1, 2, LENGTH, 0, 30_000)
    return sum(map(sum, table["piece_lengths"].to_pylist())) / (len(table) * LENGTH)


@functools.cache
def packed() -> Packed:
    """200,000 sequences in eight shards, about 100 M tokens."""
    folder = Path(tempfile.mkdtemp(prefix="raymill-"))
    drawn = np.random.default_rng(17)
    for shard in range(8):
        documents = drawn.integers(5, 30_000, (25_000, LENGTH - 2), dtype=np.uint16)
        table = pack_documents(list(documents), 1, 2, LENGTH, 0, 30_000)
        write_arrow(table, folder / "train" / f"{shard:05d}.arrow")
    return Packed(folder / "train")


def feed_tokens_per_second() -> float:
    rows, batch = packed(), 32
    order = Order(len(rows), 17)
    began = time.perf_counter()
    batches = 400
    for number in range(batches):
        rows.take(order.at(number * batch, batch))
    return batches * batch * LENGTH / (time.perf_counter() - began)


def feed_seek_ratio() -> tuple[float, float]:
    """Time to the first batch at 10 % of an epoch, and at 90 %."""
    rows, batch = packed(), 32

    def first(share: float) -> float:
        began = time.perf_counter()
        for _ in range(20):
            rows.take(Order(len(rows), 17).at(int(share * len(rows)), batch))
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
           ">= 0.85", "a tenth of the text"),
    Metric("scale_10x_rss", "x bytes", endtoend.scale.taken(itemgetter("rss")),
           "<= 1.1", "a tenth of the text"),
    Metric("neardup_recall_5", "share", lambda: neardup.recall(0.05), ">= 0.95"),
    Metric("neardup_recall_10", "share", lambda: neardup.recall(0.1), ">= 0.90"),
    Metric("neardup_recall_20", "share", lambda: neardup.recall(0.2)),
    Metric("neardup_precision", "share", lambda: neardup.precision(neardup.SAME), ">= 0.98"),
    Metric("neardup_precision_nearly_equal", "share",
           lambda: neardup.precision(neardup.NEARLY_EQUAL)),
    Metric("packing_efficiency", "share", packing_efficiency, ">= 0.98"),
    Metric("feed_tokens_per_second", "tokens/s", feed_tokens_per_second, ">= 5e6"),
    Metric("feed_seek_ratio", "10 % / 90 %", feed_seek_ratio, "about 1"),
)
# fmt: on

if __name__ == "__main__":
    main(
        "corpora", METRICS, ("raymill", "ray", "pyarrow", "numpy", "rensa", "datasets", "datatrove")
    )
