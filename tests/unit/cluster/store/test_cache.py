"""Files of a remote artifact on this node: whole, within the size, whoever else fetches."""

import concurrent.futures
import errno
import fcntl
import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.errors import InfrastructureError
from cluster.store.artifacts import Artifact
from cluster.store.cache import CachedFolder, make_room
from cluster.store.storage import Storage
from tests.fakes import published
from tests.s3 import S3Server

SIZE = 1000


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Artifact:
    """Five files behind a URI."""
    monkeypatch.setenv("HOME", str(tmp_path))
    storage = Storage.at(f"file://{tmp_path / 'workspace'}")
    files = {f"train/{number}": str(number) * SIZE for number in range(5)}
    return published(storage, "corpus/demo-shard-0a", files)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / ".cache" / "raymill" / "files"


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of files as they are asked of the workspace."""
    asked: list[str] = []
    plain = Storage.pieces

    def pieces(self: Storage, name: str) -> Iterator[bytes]:
        asked.append(name.rpartition("/")[2])
        return plain(self, name)

    monkeypatch.setattr(Storage, "pieces", pieces)
    return asked


def texts(files: CachedFolder, numbers: str) -> list[str]:
    return [files.read(f"train/{number}", Path.read_text)[:1] for number in numbers]


def test_files_of_a_local_workspace_are_read_in_place(tmp_path: Path, cache: Path) -> None:
    local = published(Storage.at(str(tmp_path)), "corpus/demo-shard-0a", {"train/0": "x"})
    files = local.cached(0)
    assert files.read("train/0", lambda path: path) == local.path / "train" / "0"
    assert not cache.exists()


def test_a_file_is_fetched_once(corpus: Artifact, fetched: list[str]) -> None:
    files = corpus.cached(10 * SIZE)
    assert texts(files, "0123400") == list("0123400")
    assert fetched == list("01234")


def test_what_was_not_asked_for_longest_goes_first(
    corpus: Artifact, cache: Path, fetched: list[str]
) -> None:
    files = corpus.cached(3 * SIZE)
    texts(files, "012")
    texts(files, "0")
    texts(files, "3")  # for which 1 goes
    fetched.clear()
    assert texts(files, "0231") == list("0231")
    assert fetched == ["1"]
    assert len(list(cache.iterdir())) == 3


def test_a_mapped_file_survives_its_eviction(corpus: Artifact, cache: Path) -> None:
    import pyarrow as pa

    files = corpus.cached(SIZE)
    mapped = files.read("train/0", lambda path: pa.memory_map(str(path)).read_buffer())
    texts(files, "1")
    assert len(list(cache.iterdir())) == 1
    assert mapped.to_pybytes() == b"0" * SIZE


def test_a_file_that_is_evicted_before_it_is_opened_is_fetched_again(
    corpus: Artifact, fetched: list[str]
) -> None:
    def evicted_once(path: Path) -> str:
        if len(fetched) == 1:
            path.unlink()
        return path.read_text()

    assert corpus.cached(SIZE).read("train/2", evicted_once) == "2" * SIZE
    assert fetched == ["2", "2"]


def damage(corpus: Artifact, name: str) -> None:
    path = Path(corpus.storage.root.removeprefix("file://")) / corpus.id / name
    path.write_text("?" * SIZE)


def test_a_damaged_file_is_refused_after_a_second_try(
    corpus: Artifact, cache: Path, fetched: list[str]
) -> None:
    damage(corpus, "train/1")
    with pytest.raises(InfrastructureError, match="corpus/demo-shard-0a/train/1: fetched 2 times"):
        corpus.cached(10 * SIZE) / "train/1"
    assert fetched == ["1", "1"]
    assert [path for path in cache.iterdir() if path.suffix != ".part"] == []


def test_a_file_that_arrives_damaged_once_is_fetched_again(
    corpus: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    arriving = iter([[b"1" * SIZE, b"and more"], [b"1" * SIZE]])
    monkeypatch.setattr(Storage, "pieces", lambda self, name: next(arriving))
    assert corpus.cached(SIZE).read("train/1", Path.read_text) == "1" * SIZE
    assert next(arriving, None) is None


def test_a_file_that_is_gone_is_told(corpus: Artifact) -> None:
    corpus.storage.delete(corpus.id)
    with pytest.raises(InfrastructureError, match=r"train/1: gone from .* run again"):
        corpus.cached(10 * SIZE) / "train/1"


def test_a_fetch_that_breaks_off_is_tried_again(
    corpus: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> Iterator[bytes]:
        yield b"1" * (SIZE // 2)
        raise OSError("connection reset")

    arriving = iter([broken(), [b"1" * SIZE], broken(), broken()])
    monkeypatch.setattr(Storage, "pieces", lambda self, name: next(arriving))
    assert corpus.cached(10 * SIZE).read("train/1", Path.read_text) == "1" * SIZE
    with pytest.raises(InfrastructureError, match=r"fetched 2 times from .*: connection reset"):
        corpus.cached(10 * SIZE) / "train/2"


def test_a_full_disk_names_the_knob(corpus: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    def pieces(self: Storage, name: str) -> Iterator[bytes]:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Storage, "pieces", pieces)
    with pytest.raises(InfrastructureError, match=r"cluster.cache_gb: the disk of .* is full"):
        corpus.cached(10 * SIZE) / "train/1"


def test_what_killed_processes_left_is_swept_away(corpus: Artifact, cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / "dead.part").write_bytes(b"x" * 100)
    living = cache / "living.part"
    with living.open("wb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        stream.truncate(SIZE)
        make_room(cache, 0)
        assert [path.name for path in cache.iterdir()] == ["living.part"]
        corpus.cached(2 * SIZE) / "train/0"
        corpus.cached(2 * SIZE) / "train/1"
        assert sum(path.stat().st_size for path in cache.iterdir()) == 2 * SIZE


def test_a_half_fetched_file_of_a_killed_process_is_fetched_whole(
    corpus: Artifact, cache: Path
) -> None:
    cache.mkdir(parents=True)
    digest = corpus.manifest.files["train/1"]["sha256"]
    (cache / f"{digest}.part").write_bytes(b"1" * 10)
    assert texts(corpus.cached(SIZE), "1") == ["1"]


def _read_all(corpus: Artifact, limit: int, seed: int) -> int:
    """Reads every file many times, in an order of its own; how often it was what it should be."""
    import random

    numbers = "01234" * 20
    drawn = "".join(random.Random(seed).sample(numbers, len(numbers)))
    files = corpus.cached(limit)
    found = [files.read(f"train/{number}", Path.read_text) for number in drawn]
    return sum(text == number * SIZE for text, number in zip(found, drawn, strict=True))


@pytest.mark.parametrize("limit", [2 * SIZE, 10 * SIZE])
def test_processes_and_threads_share_it(corpus: Artifact, cache: Path, limit: int) -> None:
    spawned = multiprocessing.get_context("spawn")
    with (
        concurrent.futures.ProcessPoolExecutor(2, mp_context=spawned) as processes,
        concurrent.futures.ThreadPoolExecutor(2) as threads,
    ):
        reading = [
            pool.submit(_read_all, corpus, limit, seed)
            for seed, pool in enumerate((processes, processes, threads, threads))
        ]
        assert [read.result(timeout=600) for read in reading] == [100] * 4
    make_room(cache, limit)
    assert sum(path.stat().st_size for path in cache.iterdir()) <= limit
    assert list(cache.glob("*.part")) == []


def test_files_come_from_s3(
    s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    storage = Storage.at(s3_server.workspace())
    remote = published(storage, "corpus/demo-shard-0a", {"train/0": "x" * (3 << 20)})
    assert remote.cached(4 << 20).read("train/0", Path.read_text) == "x" * (3 << 20)


@pytest.fixture
def work(corpus: Artifact) -> CachedFolder:
    """The files of the corpus, as if they were work of a stage."""
    return CachedFolder(corpus.storage, f"{corpus.id}/train", 3 * SIZE)


def test_of_a_work_folder_single_files_are_fetched_within_the_limit(
    work: CachedFolder, cache: Path, fetched: list[str]
) -> None:
    assert work.names() == list("01234")
    for number in "001203":
        assert (work / number).read_text() == number * SIZE
    assert fetched == list("0123")
    assert len(list(cache.iterdir())) == 3
    (work / "0").read_text()
    assert fetched == list("0123"), "1 went: it was not asked for longest"


def test_a_work_file_that_was_written_again_is_fetched_again(
    work: CachedFolder, fetched: list[str]
) -> None:
    (work / "0").read_text()
    work.storage.write(f"{work.name}/0", b"new")
    assert (work / "0").read_text() == "new"


def test_ranges_of_a_work_file_leave_no_copy(work: CachedFolder, cache: Path) -> None:
    with work.open("2") as stream:
        assert stream.read_at(2, SIZE - 2) == b"22"
    assert not cache.exists()


def test_work_files_of_a_local_workspace_are_read_in_place(tmp_path: Path, cache: Path) -> None:
    storage = Storage.at(str(tmp_path))
    storage.write("work/one/x", b"1")
    assert CachedFolder(storage, "work/one", 0) / "x" == tmp_path / "work" / "one" / "x"
    assert CachedFolder(storage, "work/absent", 0).names() == []
    assert not cache.exists()
