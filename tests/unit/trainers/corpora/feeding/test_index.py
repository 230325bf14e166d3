import collections
from pathlib import Path

from cluster.store.storage import Storage
from tests.fakes import published
from trainers.corpora.feeding import index


def test_an_index_is_read_as_it_was_written(tmp_path: Path) -> None:
    corpus = published(Storage.at(str(tmp_path)), "corpus/demo-shard-0a")
    counted = collections.Counter({"train/00001.arrow": 3, "train/00000.arrow": 4})
    counted["validation/00000.arrow"] = 2
    index.write(index.Index(64, counted), corpus.path)
    found = index.read(corpus)
    assert found.sequence_length == 64
    assert list(found.split("train").items()) == [
        ("train/00000.arrow", 4),
        ("train/00001.arrow", 3),
    ]
    assert found.split("validation") == {"validation/00000.arrow": 2}
