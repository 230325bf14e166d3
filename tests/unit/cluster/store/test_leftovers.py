from typing import Any

from cluster.cli import summary
from cluster.store import leftovers
from cluster.store.leftovers import Leftover
from cluster.store.storage import Storage


def record(status: str) -> dict[str, Any]:
    stages = [{"stage": "shard", "status": status, "artifact": "corpus/now-shard-02", "seconds": 1}]
    return {"status": status, "stages": stages}


def test_work_of_runs_that_ended_is_found_with_its_size(storage: Storage) -> None:
    storage.write("work/old-shard-01/documents/0.arrow", b"x" * 10)
    storage.write("work/old-shard-01/markers/clean/0.json", b"{}")
    storage.write("work/now-shard-02/markers/clean/0.json", b"{}")
    storage.write(".staging/model-old-finetune-03/config.json", b"x" * 50)
    storage.write("corpus/old-shard-04/manifest.json", b"{}")
    found = leftovers.found(storage, [record("running")])
    assert [(item.name, item.bytes) for item in found] == [
        (".staging/model-old-finetune-03", 50),
        ("work/old-shard-01", 12),
    ]
    found = leftovers.found(storage, [record("killed")])
    assert [item.name for item in found][1:] == ["work/old-shard-01", "work/now-shard-02"]


def test_where_nothing_is_left_nothing_is_told(storage: Storage) -> None:
    assert leftovers.found(storage, []) == []
    assert summary.leftovers([], "/mill") == []


def test_what_is_left_is_shown_with_how_to_be_rid_of_it() -> None:
    left = [Leftover("work/old-shard-01", 12_300_000_000, "2026-11-24")]
    shown = summary.leftovers(left, "/mill")
    assert "can be deleted, folder by folder:" in "\n".join(shown)
    assert shown[-1] == "  /mill/work/old-shard-01  12,300.0 MB  last written 2026-11-24"
