"""An endpoint of a tiny real model that writes, on a real HTTP server, without Ray."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
import uvicorn

from cluster.store.artifacts import Artifact
from cluster.store.storage import Storage
from serving.config import Serve
from serving.generation.api import http_api
from tests.chats import TEMPLATE
from tests.fakes import published
from tests.writers import save_writer


@pytest.fixture(scope="session")
def chat_folder(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Path:
    tokenizer.chat_template = TEMPLATE
    return save_writer(tmp_path_factory.mktemp("chat"), tokenizer, "chat")


@pytest.fixture(scope="session")
def served_model() -> Iterator[Callable[..., openai.OpenAI]]:
    """Serves a model, with keys of the section `serve`; a client of it."""
    servers: list[tuple[uvicorn.Server, threading.Thread]] = []

    def make(model: Artifact, **keys: Any) -> openai.OpenAI:
        from serving.generation.app import Endpoint

        kind: Any = Endpoint.func_or_class  # type: ignore[attr-defined]
        replica = kind.__new__(kind)
        asyncio.run(replica.__init__(model, Serve(**keys)))
        listening = socket.socket()
        listening.bind(("127.0.0.1", 0))
        config = uvicorn.Config(http_api(replica, replica._settings), log_level="warning")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        servers.append((server, thread))
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        client = openai.OpenAI(base_url=url, api_key="none", max_retries=0)
        client.replica = replica  # type: ignore[attr-defined]
        return client

    yield make
    for server, thread in servers:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="session")
def served(
    served_model: Callable[..., openai.OpenAI], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., openai.OpenAI]:
    """Serves the model in a folder."""

    def make(folder: Path, task: str = "chat", **keys: Any) -> openai.OpenAI:
        storage = Storage.at(str(tmp_path_factory.mktemp("mill")))
        inputs = {"finetune": {"task": task}}
        model = published(storage, "model/demo-finetune-0a", inputs=inputs)
        for path in folder.iterdir():
            (model.path / path.name).write_bytes(path.read_bytes())
        return served_model(model, **keys)

    return make
