"""Cleaned documents of one part as an Arrow file: `text`, and `key`, its identity. Written as a
stream and memory-mapped, so that a part of any size takes little memory."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from trainers.corpora.cleaning.documents import text_key
from trainers.corpora.text_batches import batched

SCHEMA = pa.schema([("text", pa.large_string()), ("key", pa.uint64())])
BATCH_CHARACTERS = 1 << 20
"""Of texts that are written together."""

Keys = npt.NDArray[np.uint64]
Rows = npt.NDArray[np.int64]


def write(texts: Iterable[str], path: Path) -> Keys:
    """Writes the texts; returns their keys."""
    path.parent.mkdir(parents=True, exist_ok=True)
    keys = [np.empty(0, np.uint64)]
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, SCHEMA) as stream:
        for batch in batched(texts, BATCH_CHARACTERS):
            keys.append(np.array([text_key(text) for text in batch], np.uint64))
            columns = [pa.array(batch, pa.large_string()), pa.array(keys[-1])]
            stream.write_batch(pa.record_batch(columns, schema=SCHEMA))
    return np.concatenate(keys)


class DocumentFile:
    """The documents in such a file, by row."""

    def __init__(self, path: Path):
        self._batches = list(pa.ipc.open_stream(pa.memory_map(str(path))))
        self._ends = np.cumsum([batch.num_rows for batch in self._batches], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def texts(self, rows: Rows) -> Iterator[str]:
        """The texts of these rows, which are sorted, one after the other."""
        for batch, local in self._local(rows):
            yield from batch["text"].take(pa.array(local)).to_pylist()

    def keys(self, rows: Rows) -> Keys:
        """(rows,)"""
        found = [batch["key"].to_numpy()[local] for batch, local in self._local(rows)]
        return np.concatenate(found) if found else np.empty(0, np.uint64)

    def lengths(self, rows: Rows, of_text: Callable[[pa.Array], pa.Array]) -> Rows:
        """(rows,): of each text, such as `pc.binary_length` (in UTF-8) or `pc.utf8_length` (in
        characters)."""
        found = [
            of_text(batch["text"]).to_numpy().astype(np.int64)[local]
            for batch, local in self._local(rows)
        ]
        return np.concatenate(found) if found else np.empty(0, np.int64)

    def _local(self, rows: Rows) -> Iterator[tuple[pa.RecordBatch, Rows]]:
        start = 0
        for batch, end in zip(self._batches, self._ends.tolist(), strict=True):
            first, last = np.searchsorted(rows, (start, end))
            if last > first:
                yield batch, rows[first:last] - start
            start = end
