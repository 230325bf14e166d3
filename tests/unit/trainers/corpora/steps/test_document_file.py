from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest

from trainers.corpora.cleaning.documents import text_key
from trainers.corpora.steps import document_file
from trainers.corpora.steps.document_file import DocumentFile

TEXTS = ["很好", "a longer English text", "", "混合 text", "𠮷野家"] * 7


@pytest.fixture(params=[1, 20, 10_000], ids=lambda size: f"batches of {size}")
def documents(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> DocumentFile:
    monkeypatch.setattr(document_file, "BATCH_CHARACTERS", request.param)
    keys = document_file.write(iter(TEXTS), tmp_path / "part" / "one.arrow")
    assert keys.tolist() == [text_key(text) for text in TEXTS]
    return DocumentFile(tmp_path / "part" / "one.arrow")


@pytest.mark.parametrize("rows", [[], [0], [3, 4, 5, 30], list(range(len(TEXTS)))])
def test_rows_are_found_wherever_they_stand(documents: DocumentFile, rows: list[int]) -> None:
    wanted = [TEXTS[row] for row in rows]
    chosen = np.array(rows, np.int64)
    assert len(documents) == len(TEXTS)
    assert list(documents.texts(chosen)) == wanted
    assert documents.keys(chosen).tolist() == [text_key(text) for text in wanted]
    assert documents.lengths(chosen, pc.binary_length).tolist() == [
        len(text.encode()) for text in wanted
    ]
    assert documents.lengths(chosen, pc.utf8_length).tolist() == [len(text) for text in wanted]


def test_no_documents_are_a_file_too(tmp_path: Path) -> None:
    assert len(document_file.write([], tmp_path / "none.arrow")) == 0
    assert len(DocumentFile(tmp_path / "none.arrow")) == 0
