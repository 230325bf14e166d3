"""Both heads, on the same rows."""

from pathlib import Path
from typing import Any

import pytest

from tests.entities import ROWS, ner_task, save_ner
from tests.fakes import TEXTS
from trainers.corpora.config import Tokenizer
from trainers.corpora.tokens.tokenizer import train


@pytest.fixture(scope="session")
def characters() -> Any:
    """A tokenizer of single Chinese characters."""
    texts = [*TEXTS, *(row["text"] for row in ROWS)] * 4
    return train(texts, Tokenizer(vocabulary_size=500, algorithm="wordpiece"), max_length=64)


@pytest.fixture(scope="session", params=["tags", "spans"])
def task(request: pytest.FixtureRequest, tmp_path_factory: Any, characters: Any) -> Any:
    return ner_task(tmp_path_factory.mktemp("mill"), characters, head=request.param)


@pytest.fixture(scope="session")
def model(task: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_ner(tmp_path_factory.mktemp("model"), task)
