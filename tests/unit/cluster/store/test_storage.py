import contextlib
import errno
import hashlib
import os
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn
from urllib.parse import urlsplit

import pytest

from cluster.errors import InfrastructureError, UserError
from cluster.store.storage import CACHE, Storage
from tests.s3 import S3Server


@pytest.fixture(params=["local", "remote", "s3"])
def storage(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Storage:
    """Like that of the other tests, and one in S3, whose URI carries a query."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    if request.param == "s3":
        return Storage.at(request.getfixturevalue("s3_server").workspace())
    scheme = "file://" if request.param == "remote" else ""
    (tmp_path / "workspace").mkdir()
    return Storage.at(f"{scheme}{tmp_path / 'workspace'}")


def test_what_is_written_is_read(storage: Storage) -> None:
    storage.write("runs/one/run.json", b"{}")
    storage.write("runs/one/run.json", b"{1}")
    assert storage.read("runs/one/run.json") == b"{1}"
    assert storage.files("runs") == {"one/run.json": 3}, "no half-written file is left"


def test_a_file_whose_write_was_killed_is_none(storage: Storage) -> None:
    with storage.writing("markers") as folder:
        for name in ("a.json", "b.json.1a2b3c4d.part", "c.part"):
            (folder / name).write_bytes(b"{}")
    assert storage.files("markers") == {"a.json": 2, "c.part": 2}
    assert storage.measure("markers")[0] == 6, "though it takes room"


def test_what_is_absent_is_not_found(storage: Storage) -> None:
    with pytest.raises(FileNotFoundError):
        storage.read("runs/one/run.json")
    assert not storage.exists("runs")
    assert storage.files("runs") == {}
    assert storage.folders("runs") == []
    storage.delete("runs")


def test_what_stands_in_a_folder_is_added(storage: Storage) -> None:
    for name in ("b", "a"):
        with storage.writing("corpus/one") as folder:
            (folder / "train").mkdir(exist_ok=True)
            (folder / "train" / f"{name}.arrow").write_bytes(name.encode())
    assert list(storage.files("corpus/one")) == ["train/a.arrow", "train/b.arrow"]
    assert storage.folders("corpus") == ["one"]
    assert storage.folders("corpus/one/train") == [], "files are no folders"


def test_files_that_come_by_way_of_another_folder_show_when_they_are_whole(
    storage: Storage,
) -> None:
    def half() -> None:
        with storage.writing("work/one", "work/unfinished") as folder:
            (folder / "b").write_bytes(b"half")
            raise KeyboardInterrupt

    with storage.writing("work/one", "work/unfinished") as folder:
        (folder / "deep").mkdir()
        (folder / "deep" / "a").write_bytes(b"1")
        assert "a" not in storage.files("work/one")
    with pytest.raises(KeyboardInterrupt):
        half()
    assert storage.files("work") == {"one/deep/a": 1}


@pytest.fixture
def happened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is brought to the disk itself, and what is renamed to where it counts, in order."""
    found: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def noted_fsync(descriptor: int) -> None:
        found.append(f"sync {Path(os.readlink(f'/proc/self/fd/{descriptor}')).name}")
        fsync(descriptor)

    def noted_replace(path: Path, target: Path) -> Path:
        found.append(f"name {target.name}")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    return found


def test_a_power_cut_leaves_no_marker_without_its_files(
    tmp_path: Path, happened: list[str]
) -> None:
    storage = Storage.at(str(tmp_path))
    with storage.writing("work/documents", "work/unfinished") as folder:
        (folder / "a").write_bytes(b"1")
    storage.write("work/markers/a.json", b"{}")
    part = happened[3].removeprefix("sync ")
    assert part.startswith("a.json.")
    assert happened == [
        "sync a", "name a", "sync documents", f"sync {part}", "sync markers"
    ]  # fmt: skip


@pytest.mark.parametrize(("number", "tolerated"), [(errno.EINVAL, True), (errno.EIO, False)])
def test_a_disk_that_cannot_keep_what_is_written_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, tolerated: bool
) -> None:
    def fsync(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fsync)
    expected = contextlib.nullcontext() if tolerated else pytest.raises(OSError, match="Input")
    with expected:
        Storage.at(str(tmp_path)).write("one", b"")


def test_a_folder_with_all_it_holds_is_brought_to_the_disk(
    tmp_path: Path, happened: list[str]
) -> None:
    (tmp_path / "one" / "deep").mkdir(parents=True)
    (tmp_path / "one" / "deep" / "a").write_bytes(b"1")
    Storage.at(str(tmp_path)).sync("one")
    assert sorted(happened) == ["sync a", "sync deep", "sync one"]


def test_a_folder_is_brought_here(storage: Storage) -> None:
    with storage.writing("model/one") as folder:
        (folder / "deep").mkdir()
        (folder / "deep" / "config.json").write_text("{}")
    assert (storage.local("model/one") / "deep" / "config.json").read_text() == "{}"


def test_a_remote_folder_is_fetched_once_and_again_when_rewritten(storage: Storage) -> None:
    storage.write("model/one/config.json", b"1")
    here = storage.local("model/one")
    assert storage.local("model/one") == here
    storage.delete("model/one")
    storage.write("model/one/config.json", b"22")
    assert (storage.local("model/one") / "config.json").read_bytes() == b"22"


def test_a_fetch_that_was_killed_is_done_anew(tmp_path: Path, storage: Storage) -> None:
    storage.write("model/one/config.json", b"1")
    here = storage.local("model/one")
    if storage.is_local:
        return
    here.rename(here.with_suffix(".part"))
    (here.with_suffix(".part") / "half").write_bytes(b"")
    assert [path.name for path in storage.local("model/one").iterdir()] == ["config.json"]
    assert not here.with_suffix(".part").exists()


def test_a_full_disk_here_is_not_the_stores(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    if storage.is_local:
        pytest.skip("nothing is fetched")
    storage.write("model/one/config.json", b"1")

    told = r"^~/\.cache/raymill, for a copy of model/one: No space left on device; free space"

    def full(source: str, target: str, **_: object) -> NoReturn:
        Path(target, "half").write_bytes(b"1")
        raise OSError(errno.ENOSPC, "Error writing bytes to file")

    with monkeypatch.context() as patch:
        patch.setattr("pyarrow.fs.copy_files", full)
        with pytest.raises(InfrastructureError, match=told):
            storage.local("model/one")
    assert list(CACHE.expanduser().glob("*.part")) == []
    assert (storage.local("model/one") / "config.json").read_bytes() == b"1"


def test_the_hash_is_that_of_the_bytes(storage: Storage) -> None:
    data = b"x" * (3 << 20)
    storage.write("model/weights", data)
    assert storage.sha256("model/weights") == hashlib.sha256(data).hexdigest()


def test_a_folder_is_deleted_whole(storage: Storage) -> None:
    storage.write("model/one/deep/config.json", b"{}")
    storage.write("model/two/config.json", b"{}")
    storage.delete("model/one")
    assert storage.folders("model") == ["two"]
    storage.delete("model/two/config.json")
    storage.delete("model/three")
    assert storage.files("model") == {}


def test_a_storage_goes_to_other_processes(storage: Storage) -> None:
    storage.write("x", b"1")
    assert pickle.loads(pickle.dumps(storage)).read("x") == b"1"


def test_a_local_folder_is_renamed_over_nothing(tmp_path: Path) -> None:
    storage = Storage.at(str(tmp_path))
    storage.write(".staging/model/one/config.json", b"{}")
    storage.rename(".staging/model/one", "model/one")
    assert storage.files("model") == {"one/config.json": 2}
    assert not storage.exists(".staging/model/one")


def test_a_workspace_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Storage.at("~/new/mill").root == str(tmp_path / "new" / "mill")
    assert (tmp_path / "new" / "mill").is_dir()


def test_a_workspace_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(UserError, match=r"workspace: cannot make '.*taken': File exists"):
        Storage.at(str(tmp_path / "taken"))


def test_an_unknown_scheme_is_refused() -> None:
    with pytest.raises(UserError, match="workspace: cannot open 'ftp://host/mill'"):
        Storage.at("ftp://host/mill")


def test_a_workspace_that_does_not_answer_is_told_after_one_try(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tries = []

    def unreachable(_: str) -> None:
        tries.append(1)
        raise OSError("AWS Error NETWORK_CONNECTION")

    answer = SimpleNamespace(type_name="s3", create_dir=unreachable), "bucket/mill"
    monkeypatch.setattr("pyarrow.fs.FileSystem", SimpleNamespace(from_uri=lambda _: answer))
    with pytest.raises(InfrastructureError, match="workspace: cannot reach 's3://bucket/mill'"):
        Storage.at("s3://bucket/mill")
    assert len(tries) == 1


def test_an_object_is_put_by_one_request_without_markers_of_folders(
    s3_server: S3Server,
) -> None:
    from moto.core import DEFAULT_ACCOUNT_ID
    from moto.s3.models import s3_backends

    workspace = s3_server.workspace()
    Storage.at(workspace).write("runs/one/run.json", b"{}")
    bucket = urlsplit(workspace).netloc
    kept = s3_backends[DEFAULT_ACCOUNT_ID]["aws"].buckets[bucket].keys
    assert list(kept) == ["mill/runs/one/run.json"]
    assert kept["mill/runs/one/run.json"].multipart is None


def test_a_bucket_is_made_where_its_address_says_so(s3_server: S3Server) -> None:
    wanted = s3_server.workspace().replace("s3://bucket-", "s3://other-")
    with pytest.raises(InfrastructureError, match=r"Bucket 'other-.*' not found"):
        Storage.at(wanted)
    storage = Storage.at(f"{wanted}&allow_bucket_creation=true")
    storage.write("runs/one/run.json", b"{}")
    assert Storage.at(wanted).read("runs/one/run.json") == b"{}"
