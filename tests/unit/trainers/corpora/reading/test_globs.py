"""One way to find files, on disks and in stores: links, dots, brackets, and names in URIs."""

import os
from pathlib import Path
from urllib.parse import quote, urlsplit

import pyarrow.fs as pafs
import pytest

from cluster.errors import UserError
from tests.s3 import S3Server
from trainers.corpora.reading.config import Source
from trainers.corpora.reading.readers import read
from trainers.corpora.reading.sources import content_hash, found_files, parts, would_find

KEY = "corpora.sources.x"
HIDDEN = "names that begin with '.', '_' or '~$'"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(f"{name}\n")


def found(pattern: str) -> list[str]:
    """Relative names of the files that a path and a URI of it both find."""
    on_disk = found_files(Source(path=pattern), KEY)
    by_uri = found_files(Source(path=f"file://{quote(str(Path(pattern).absolute()))}"), KEY)
    assert on_disk == by_uri
    if not Path(pattern).is_file():
        source = Source(path=pattern)
        assert all(would_find(source, os.path.abspath(file)) for file in on_disk.files)
    return [os.path.relpath(file) for file in on_disk.files]


def skipped(pattern: str) -> list[str]:
    lines = found_files(Source(path=pattern), KEY).skipped
    return [line.replace(f"{Path.cwd()}/", "") for line in lines]


def test_linked_folders_and_files_are_read_once_by_their_own_names() -> None:
    """allenai/ir_datasets#160"""
    write("data/a/1.txt", "store/2.txt", "store/deep/3.txt", "alone.txt")
    Path("data/b").symlink_to("../store")
    Path("data/deep").symlink_to("../store/deep")  # a folder of which a link shows the folder above
    Path("data/a/4.txt").symlink_to("../../alone.txt")
    Path("data/a/5.txt").symlink_to("1.txt")
    Path("data/a/6.txt").symlink_to("4.txt")  # a link to a link
    names = ["data/a/1.txt", "data/a/4.txt", "data/b/2.txt", "data/b/deep/3.txt"]
    assert found("data/**/*.txt") == names
    assert skipped("data/**/*.txt") == [
        "passed over links to what is read already (3): data/a/5.txt, data/a/6.txt, data/deep/3.txt"
    ]
    assert found("data/b/*.txt") == ["data/b/2.txt"]
    assert found("data/*/*.txt")[-1] == "data/deep/3.txt"


def test_loops_end_and_links_that_lead_nowhere_are_told() -> None:
    write("data/1.txt", "data/sub/2.txt")
    Path("data/sub/up").symlink_to("..")
    Path("data/sub/self").symlink_to("self")
    Path("data/gone.txt").symlink_to("nothing.txt")
    assert found("data/**/*.txt") == ["data/1.txt", "data/sub/2.txt"]
    assert skipped("data/**/*.txt") == [
        "passed over links that lead nowhere (2): data/gone.txt, data/sub/self",
        "passed over links to what is read already (1): data/sub/up",
    ]
    lines: list[str] = []
    parts(Source(path="data/**/*.txt"), KEY, tell=lines.append)
    assert [line.partition(": ")[0] for line in lines] == [KEY, KEY]
    with pytest.raises(UserError, match=r"'data/gone.txt' is a link to 'nothing.txt', where there"):
        found("data/gone.txt")


def test_hidden_names_are_passed_over() -> None:
    """unslothai/unsloth#8919"""
    write("data/1.txt", "data/.2.txt", "data/.ipynb_checkpoints/1-checkpoint.txt", ".own/3.txt")
    assert found("data/**/*.txt") == found("data/*.txt") == found("data/**") == ["data/1.txt"]
    assert skipped("data/**/*.txt") == [
        f"passed over {HIDDEN} (2): data/.2.txt, data/.ipynb_checkpoints"
    ]
    write("data/_SUCCESS", "data/_temporary/0/4.txt", "data/__MACOSX/5.txt", "data/~$1.txt")
    assert found("data/**/*.txt") == found("data/**") == ["data/1.txt"]
    assert found("data/.*.txt") == ["data/.2.txt"], "unless the dot is given"
    assert found("data/_*/**/*.txt") == ["data/__MACOSX/5.txt", "data/_temporary/0/4.txt"]
    assert found("data/__MACOSX/*") == ["data/__MACOSX/5.txt"]
    assert found(".own/*.txt") == found("./.own/3.txt") == [".own/3.txt"]
    with pytest.raises(UserError, match=r"no file matches 'data/.*; passed over names that begin"):
        found("data/?2.txt")


def test_a_name_with_brackets_that_exists_is_that_file() -> None:
    """huggingface/datasets#7468"""
    write("data/[2024] export/1.txt", "data/2 export/2.txt", "[ab].txt", "a.txt", "what?.txt")
    assert found("data/[2024] export/1.txt") == ["data/[2024] export/1.txt"]
    assert found("data/[2024] export/*.txt") == ["data/[2024] export/1.txt"]
    assert found("[ab].txt") == ["[ab].txt"]
    assert found("what?.txt") == ["what?.txt"]
    assert found("[a].txt") == ["a.txt"]
    assert found("data/[[]2024] export/*") == ["data/[2024] export/1.txt"]


NAMES = ["my data/评论 1.txt", "100%.txt", "a%20b.txt", "a#b+c&d=e.txt", "[2024]/x?.txt"]


@pytest.mark.parametrize("name", NAMES)
def test_names_in_file_uris_are_encoded_or_as_they_are(name: str) -> None:
    """ray-project/ray#40546"""
    write(name)
    for path in (name, quote(name)):
        source = Source(path=f"file://{Path.cwd()}/{path}")
        assert [d.text for part in parts(source, KEY) for d in read(source, part)] == [f"{name}\n"]
        content_hash(source, KEY)
    folder = Path(name).parent.as_posix()
    for path in (folder, quote(folder)):
        assert len(found_files(Source(path=f"file://{Path.cwd()}/{path}/*.txt"), KEY).files) == 1


def test_a_files_uri_has_three_slashes() -> None:
    with pytest.raises(UserError, match="a file's URI has three slashes: file:///data"):
        found_files(Source(path="file://data/a.txt"), KEY)


@pytest.fixture
def bucket(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{s3_server.endpoint}")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    return urlsplit(s3_server.workspace()).netloc


def test_an_object_store_is_looked_through_as_a_disk_is(bucket: str) -> None:
    s3, _ = pafs.FileSystem.from_uri(f"s3://{bucket}")
    names = [
        *NAMES,
        "data/.ipynb_checkpoints/1.txt",
        "data/1.txt",
        "data/deep/2.txt",
        "data/.3.txt",
    ]
    for name in names:
        with s3.open_output_stream(f"{bucket}/{name}") as stream:
            stream.write(f"{name}\n".encode())

    def texts(path: str) -> list[str]:
        source = Source(path=f"s3://{bucket}/{path}")
        found = [d.text or "" for part in parts(source, KEY) for d in read(source, part)]
        return [text.rstrip("\n") for text in found]

    for name in NAMES:
        assert texts(name) == texts(quote(name)) == [name]
    assert texts("my data/*.txt") == texts("my%20data/*.txt") == [NAMES[0]]
    assert texts("[2024]/*.txt") == ["[2024]/x?.txt"]
    assert texts("data/**/*.txt") == texts("data/**") == ["data/1.txt", "data/deep/2.txt"]
    assert texts("data/*.txt") == ["data/1.txt"]
    hidden = found_files(Source(path=f"s3://{bucket}/data/**"), KEY).skipped
    assert len(hidden) == 1
    assert hidden[0].startswith(f"passed over {HIDDEN} (2): ")
    content_hash(Source(path=f"s3://{bucket}/my data/*.txt"), KEY)
    for gone in ("gone.txt", "gone/*.txt"):
        with pytest.raises(UserError, match=r"no object matches 's3://"):
            texts(gone)
