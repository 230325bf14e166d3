"""The steps of near deduplication without Ray: every step looks at one part or bucket alone."""

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cluster.artifacts import Draft
from cluster.storage import Storage
from tests.reviews import edited, reviews
from trainers.corpora import near
from trainers.corpora.pack import write_arrow

TEXTS = [text for text in dict.fromkeys(reviews()) if len(text) > 40][:90]


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(near, "each", lambda job, items, function, unit: map(function, items))
    storage = Storage.at(str(tmp_path))
    return SimpleNamespace(storage=storage, draft=Draft(storage, "corpus/demo-shard-0a"))


def part(job: Any, name: str, texts: list[str]) -> near.Part:
    with job.draft.folder() as folder:
        table = pa.table({"text": pa.array(texts, pa.large_string())})
        write_arrow(table, folder / "documents" / f"{name}.arrow")
    return near.Part(name, "documents", np.arange(len(texts)))


def left(job: Any) -> set[str]:
    return {name.partition("/")[0] for name in job.storage.files(job.draft.place)}


def test_the_first_of_a_cluster_stays_and_what_is_held_out_wins(job: Any) -> None:
    drawn = random.Random(17)
    held_out = [part(job, "test", TEXTS[:5])]
    others = [
        part(job, "web", TEXTS[5:50]),
        part(job, "books", [edited(text, 0.05, drawn) for text in TEXTS[:10]] + TEXTS[50:]),
    ]
    found = near.find(job, held_out, others, 0.4)
    assert found.near["books"].tolist() == [5, 6, 7, 8, 9]
    assert found.held_out["books"].tolist() == [0, 1, 2, 3, 4]
    assert not len(found.near["web"])
    assert not len(found.held_out["web"])
    assert left(job) == {"documents"}


def test_without_duplicates_nothing_is_dropped_and_nothing_left(job: Any) -> None:
    found = near.find(
        job, [], [part(job, "web", TEXTS[:20]), part(job, "books", TEXTS[20:40])], 0.4
    )
    assert {name: len(rows) for name, rows in found.near.items()} == {"web": 0, "books": 0}
    assert left(job) == {"documents"}


def test_without_documents_there_is_nothing_to_find(job: Any) -> None:
    assert near.find(job, [part(job, "test", TEXTS[:5])], [], 0.4) == near.Duplicates({}, {})
    assert left(job) == {"documents"}
