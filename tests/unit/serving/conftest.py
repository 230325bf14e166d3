"""A replica of a tiny real classifier, without Ray."""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster.store.storage import Storage
from serving.config import Serve
from tests.classifiers import save_classifier
from tests.fakes import published


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Path:
    return save_classifier(tmp_path_factory.mktemp("classifier"), tokenizer)


@pytest.fixture(scope="session")
def replica(classifier: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Makes one, with keys of the section `serve`. Each of its requests has a forward of its own:
    to gather several, Serve must run."""

    def make(folder: Path = classifier, **keys: Any) -> Any:
        from serving.encoders.app import Endpoint

        storage = Storage.at(str(tmp_path_factory.mktemp("mill")))
        inputs = {"finetune": {"task": "classify"}}
        model = published(storage, "model/demo-finetune-0a", inputs=inputs)
        shutil.copytree(folder, model.path, dirs_exist_ok=True)
        kind = Endpoint.func_or_class  # type: ignore[attr-defined]
        made = kind.__new__(kind)
        asyncio.run(made.__init__(model, Serve(**keys)))

        async def forward(encoded: Any) -> Any:
            return (await kind._forward.__wrapped__(made, [encoded]))[0]

        made._forward = forward
        return made

    return make
