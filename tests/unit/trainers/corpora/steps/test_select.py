"""The steps from clean documents to chosen ones, without Ray: each looks at one item alone."""

import random
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cluster.store.artifacts import Draft
from cluster.store.storage import Storage
from tests.fakes import Notes, serial
from tests.reviews import edited, reviews
from trainers.corpora.cleaning.config import Clean
from trainers.corpora.cleaning.documents import (
    CONTAMINATED,
    EXACT,
    HELD_OUT,
    NEAR,
    Counts,
    text_key,
)
from trainers.corpora.cleaning.rules import normalize
from trainers.corpora.config import Corpora
from trainers.corpora.steps import clean_parts, near_dedup, quotes, select
from trainers.corpora.steps.clean_parts import DOCUMENTS, clean, parts_of
from trainers.corpora.steps.document_file import DocumentFile
from trainers.corpora.steps.select import CHOSEN
from trainers.corpora.steps.shard_assignment import SPLITS

TEXTS = [normalize(text, Clean()) for text in dict.fromkeys(reviews()) if len(text) > 40][:120]
DOCUMENTS_IN_ALL = 150_000
"""As it is told: so that there are three buckets."""
CACHE_BYTES = 200_000
"""The largest file that is fetched has half of that."""
SOURCES = {
    "web": {"path": "web-*.txt"},
    "books": {"path": "books.txt", "validation": 0.4},
    "left": {"path": "web-*.txt", "repeat": 0},
}


@pytest.fixture
def mill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Chooses from files of texts; returns what is kept by source and split, and the counts."""
    for module in (clean_parts, select, quotes, near_dedup):
        monkeypatch.setattr(module, "each", serial)
    monkeypatch.chdir(tmp_path)

    monkeypatch.setenv("HOME", str(tmp_path / "home"))

    def run(files: dict[str, list[str]], held_out: list[str], scheme: str = "", **keys: Any) -> Any:
        for name, texts in files.items():
            (tmp_path / name).write_text("".join(f"{text}\n" for text in texts), "utf-8")
        corpora = Corpora.model_validate({"sources": SOURCES, "validation": 0.1, **keys})
        storage = Storage.at(f"{scheme}{tmp_path / 'mill'}")
        job: Any = SimpleNamespace(
            recipe=SimpleNamespace(corpora=corpora, seed=17),
            draft=Draft(storage, "corpus/demo-shard-0a", cache_bytes=CACHE_BYTES),
            storage=storage, progress=Notes(),
        )  # fmt: skip
        parts = parts_of(job, job.recipe.corpora.of_pretraining)
        counts = clean(job, parts)
        keys = np.array([text_key(text) for text in held_out], np.uint64)
        select.exact(job, parts, DOCUMENTS_IN_ALL, keys)
        if corpora.decontaminate:
            quotes.find_passages(job, iter, held_out)
        for source, dropped in select.drop(job, parts):
            counts[source] += dropped
        similarity = corpora.deduplicate.similarity
        figures = similarity and near_dedup.find(job, parts, DOCUMENTS_IN_ALL, held_out, similarity)
        found: dict[str, dict[str, list[str]]] = {}
        for part, dropped, outcome in select.choose(job, parts):
            counts[part.source] += dropped
            documents = DocumentFile(job.draft.worked(DOCUMENTS) / f"{part.name}.arrow")
            for split in SPLITS:
                rows = np.load(job.draft.worked(f"{CHOSEN}/{split}") / f"{part.name}.npy")
                assert [piece[1] for piece in outcome["pieces"][split]][-1:] == (
                    [len(rows)] if len(rows) else []
                )
                kept = found.setdefault(part.source, {}).setdefault(split, [])
                kept += documents.texts(rows)
        return found, counts, figures

    return run


def everything(found: dict[str, dict[str, list[str]]], source: str) -> set[str]:
    return {text for split in SPLITS for text in found[source][split]}


def test_equal_and_held_out_texts_are_dropped_and_counted(mill: Any) -> None:
    files = {
        "web-1.txt": TEXTS[:60] + TEXTS[:5],
        "web-2.txt": TEXTS[50:80],
        "books.txt": TEXTS[70:120],
    }
    found, counts, _ = mill(files, held_out=TEXTS[30:40] + TEXTS[115:120], decontaminate=None)
    assert everything(found, "web") == {*TEXTS[:30], *TEXTS[40:80]}
    assert everything(found, "books") == set(TEXTS[80:115])
    assert counts["web"].report() == {
        "read": 95, "dropped": {EXACT: 15, HELD_OUT: 10}, "kept": 70, "masked": {}
    }  # fmt: skip
    assert counts["books"].dropped == {EXACT: 10, HELD_OUT: 5}
    assert counts["left"] == Counts(), "a source that is not repeated is not read"
    assert len(counts["web"].samples[EXACT]) == 3
    assert set(counts["web"].samples["kept"].values()) <= {text[:200] for text in TEXTS[:80]}
    assert not set(counts["web"].samples["kept"]) & {text_key(text) for text in TEXTS[30:40]}


def test_validation_is_a_share_of_each_source_and_never_trained_on(mill: Any) -> None:
    found, _, _ = mill({"web-1.txt": TEXTS[:60], "books.txt": TEXTS[60:]}, [])
    for source, low, high in (("web", 0.02, 0.25), ("books", 0.25, 0.55)):
        held = set(found[source]["validation"])
        assert low < len(held) / 60 < high
        assert not held & set(found[source]["train"])


def test_quotes_of_evaluation_texts_are_dropped(mill: Any) -> None:
    quotes = [f"有人说：{text}你怎么看？" for text in TEXTS[100:110]]
    files = {"web-1.txt": TEXTS[:50] + quotes, "books.txt": TEXTS[50:60]}
    found, counts, _ = mill(files, held_out=TEXTS[100:110])
    assert everything(found, "web") == set(TEXTS[:50])
    assert counts["web"].dropped == {CONTAMINATED: 10}


def test_a_footer_that_documents_share_drops_none_of_them(mill: Any) -> None:
    """marin-community/marin#7126"""
    footer = "。此致敬礼,北方商店客户服务部全体同事敬上"
    files = {
        "web-1.txt": [f"{text}{footer}" for text in TEXTS[:30]],
        "web-2.txt": [f"{text}{footer}" for text in TEXTS[30:40]] + [TEXTS[100]],
        "books.txt": TEXTS[40:60],
    }
    found, counts, _ = mill(files, held_out=[f"{TEXTS[100]}{footer}", f"短{footer}"])
    assert everything(found, "web") == {f"{text}{footer}" for text in TEXTS[:40]}
    assert counts["web"].dropped == {CONTAMINATED: 1}
    assert counts["web"].kept == 40
    assert counts["books"].dropped == {}


def test_the_first_of_a_cluster_stays_and_what_is_held_out_wins(mill: Any) -> None:
    drawn = random.Random(17)
    copies = [edited(text, 0.05, drawn) for text in TEXTS[:10]]
    files = {"web-1.txt": TEXTS[5:50], "web-2.txt": TEXTS[50:60], "books.txt": copies + TEXTS[60:]}
    settings = {"deduplicate": {"similarity": 0.4}, "decontaminate": None}
    found, counts, figures = mill(files, held_out=TEXTS[:5], **settings)
    assert everything(found, "web") == set(TEXTS[5:60])
    assert everything(found, "books") == set(TEXTS[60:])
    assert counts["books"].dropped == {NEAR: 5, HELD_OUT: 5}
    assert figures == {"documents": 10, "clusters": 10, "sizes": {"2": 10}}


def test_a_cluster_larger_than_a_bucket_comes_together(mill: Any) -> None:
    drawn = random.Random(17)
    chain = [edited(TEXTS[0], 0.04, drawn) for _ in range(40)]
    files = {"web-1.txt": chain[:20], "web-2.txt": chain[20:], "books.txt": TEXTS[50:60]}
    found, _, figures = mill(files, [], deduplicate={"similarity": 0.4}, decontaminate=None)
    assert everything(found, "web") == {chain[0]}
    assert figures["clusters"] == 1


def test_without_duplicates_nothing_is_dropped(mill: Any) -> None:
    files = {"web-1.txt": TEXTS[:20], "books.txt": TEXTS[20:40]}
    found, _, figures = mill(files, [], deduplicate={"similarity": 0.4})
    assert everything(found, "web") | everything(found, "books") == set(TEXTS[:40])
    assert figures == {"documents": 0, "clusters": 0, "sizes": {}}


def test_in_a_remote_workspace_the_same_is_chosen_within_the_cache(
    mill: Any, tmp_path: Path
) -> None:
    drawn = random.Random(17)
    copies = [edited(text, 0.05, drawn) for text in TEXTS[:10]]
    files = {"web-1.txt": TEXTS[5:50], "web-2.txt": TEXTS[50:60], "books.txt": copies + TEXTS[60:]}
    settings = {"deduplicate": {"similarity": 0.4}}
    here = mill(files, held_out=TEXTS[:5], **settings)
    assert not (tmp_path / "home").exists()
    shutil.rmtree(tmp_path / "mill")
    assert mill(files, held_out=TEXTS[:5], scheme="file://", **settings) == here
    (cache,) = (tmp_path / "home" / ".cache" / "raymill").iterdir()
    sizes = [path.stat().st_size for path in cache.iterdir()]
    assert cache.name == "files"
    assert sum(sizes) <= CACHE_BYTES
