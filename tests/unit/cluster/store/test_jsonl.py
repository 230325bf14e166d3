import json
import threading
from pathlib import Path
from typing import NoReturn

import pytest

from cluster.errors import InfrastructureError
from cluster.store import jsonl
from cluster.store.jsonl import Lines
from cluster.store.storage import Storage


def test_a_later_writer_goes_on_behind_an_earlier_one(storage: Storage) -> None:
    for number in range(3):
        writer = Lines(storage, "work/x/metrics.jsonl")
        assert [one["n"] for one in writer.records] == list(range(number))
        writer.append({"n": number, "kind": "好"})
        writer.close()
    text = storage.read("work/x/metrics.jsonl").decode()
    assert [json.loads(line) for line in text.splitlines()] == writer.records
    assert jsonl.read(storage, "work/x/absent.jsonl") == []


def test_half_a_line_of_a_killed_writer_is_no_line(storage: Storage) -> None:
    storage.write("x.jsonl", '{"n": 0}\n{"n": 1, "kind": "好'.encode()[:-1])
    assert jsonl.read(storage, "x.jsonl") == [{"n": 0}]
    writer = Lines(storage, "x.jsonl")
    writer.append({"n": 2})
    writer.close()
    assert storage.read("x.jsonl") == b'{"n": 0}\n{"n": 2}\n'


def test_lines_are_cut_back(storage: Storage) -> None:
    writer = Lines(storage, "x.jsonl")
    for number in range(5):
        writer.append({"n": number})
    writer.keep(lambda line: line["n"] <= 2)
    writer.append({"n": 3})
    writer.close()
    assert [line["n"] for line in jsonl.read(storage, "x.jsonl")] == [0, 1, 2, 3]


def test_lines_are_seen_while_they_are_written(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a disk at once, elsewhere after an interval, without waiting for the upload."""
    now = 0.0
    monkeypatch.setattr(jsonl.time, "monotonic", lambda: now)
    writer = Lines(storage, "x.jsonl")
    writer.append({"n": 0})
    assert len(jsonl.read(storage, "x.jsonl")) == (1 if storage.is_local else 0)
    now = jsonl.UPLOAD_INTERVAL_S
    writer.append({"n": 1})
    if writer._saving is not None:
        writer._saving.result()
    assert len(jsonl.read(storage, "x.jsonl")) == 2
    writer.close()


def test_of_uploads_that_wait_the_last_one_is_done(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    if storage.is_local:
        pytest.skip("nothing is uploaded")
    writer = Lines(storage, "x.jsonl")
    begun, may_write = threading.Event(), threading.Event()
    written, write = list[int](), Storage.write

    def write_later(self: Storage, name: str, data: bytes) -> None:
        begun.set()
        assert may_write.wait(600)
        written.append(data.count(b"\n"))
        write(self, name, data)

    monkeypatch.setattr(Storage, "write", write_later)
    for number in range(5):
        writer.append({"n": number})
        writer.save()
        assert begun.wait(600), "the first one goes on"
    may_write.set()
    assert writer._saving is not None
    writer._saving.result()
    assert written == [1, 5]


def test_a_storage_that_takes_nothing_is_told_with_its_place(tmp_path: Path) -> None:
    storage = Storage.at(str(tmp_path))
    writer = Lines(storage, "x.jsonl")
    (tmp_path / "x.jsonl").unlink()
    (tmp_path / "x.jsonl").mkdir()
    told = rf"{tmp_path}: x\.jsonl cannot be written: .*; mend the storage and run again"
    for call in (lambda: writer.append({"n": 1}), lambda: writer.keep(lambda line: False)):
        with pytest.raises(InfrastructureError, match=told):
            call()


def test_what_a_checkpoint_finds_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[bytes] = []
    monkeypatch.setattr(Storage, "sync", lambda self, name: synced.append(self.read(name)))
    writer = Lines(Storage.at(str(tmp_path)), "x.jsonl")
    writer.append({"n": 0})
    writer.save()
    assert writer._saving is not None
    writer._saving.result()
    assert synced == [b'{"n": 0}\n']
    writer.close()


def test_what_could_not_be_saved_is_written_whole_at_the_end(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that failed to sync a file may say nothing of it when it is asked again."""
    writer = Lines(storage, "x.jsonl")

    def fails(*_: object) -> NoReturn:
        raise OSError("503 slow down")

    with monkeypatch.context() as patch:
        patch.setattr(Storage, "sync" if storage.is_local else "write", fails)
        writer.append({"n": 0})
        writer.save()
        assert writer._saving is not None
        writer._saving.result()
    writer.append({"n": 1})
    writer.close()
    assert [line["n"] for line in jsonl.read(storage, "x.jsonl")] == [0, 1]
