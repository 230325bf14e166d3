"""Unit tests run in seconds: none of them starts Ray."""

import importlib.util
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn

import hypothesis
import pytest

from tests.fakes import TEXTS
from tests.s3 import s3_server  # noqa: F401  a fixture

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


# A busy machine is no failure; and nothing is remembered, so that a test means the same everywhere.
hypothesis.settings.register_profile("unit", deadline=None, database=None, max_examples=30)
hypothesis.settings.load_profile("unit")


def _forbidden(*_: Any, **__: Any) -> NoReturn:
    raise AssertionError("a unit test must not start Ray")


class _ForbidInit:
    """An import hook: `ray.init` is forbidden as soon as a test imports Ray, and not before, since
    that import takes seconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self._monkeypatch = monkeypatch

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != "ray":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        assert spec is not None
        loader: Any = spec.loader
        load = loader.exec_module

        def load_and_forbid(module: ModuleType) -> None:
            load(module)
            self._monkeypatch.setattr(module, "init", _forbidden)

        loader.exec_module = load_and_forbid
        return spec


@pytest.fixture(autouse=True)
def _no_ray(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    hook: Any = _ForbidInit(monkeypatch)
    if "ray" in sys.modules:
        monkeypatch.setattr(sys.modules["ray"], "init", _forbidden)
    else:
        sys.meta_path.insert(0, hook)
    yield
    if hook in sys.meta_path:
        sys.meta_path.remove(hook)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """The models are tiny: several threads would only wait for each other on a busy machine."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def tokenizer() -> "PreTrainedTokenizerFast":
    """A tiny trained tokenizer."""
    from trainers.corpora.config import Tokenizer
    from trainers.corpora.tokens.tokenizer import train

    return train(TEXTS * 4, Tokenizer(vocabulary_size=400), max_length=64)
