"""What cannot be compiled runs uncompiled, and a line says why."""

import shutil
from typing import Any, NoReturn

import pytest
import torch
from torch import nn

from tests.fakes import Notes
from trainers.engine import compiling
from trainers.engine.compiling import try_compile
from trainers.parallel import collectives

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="needs no compiler of C++")
CPU = torch.device("cpu")
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++")


class Halved(nn.Module):
    """A module of our own: torch does not compile its own ones alone."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs.sin() / 2


@pytest.fixture(autouse=True)
def anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forgets what was compiled before, and restores what a test sets."""
    torch._dynamo.reset()
    monkeypatch.setattr(torch._dynamo.config, "suppress_errors", False)
    monkeypatch.setattr(torch._functorch.config, "force_non_lazy_backward_lowering", False)
    monkeypatch.setattr(torch._inductor.config, "force_disable_caches", True)
    workers(monkeypatch)


def workers(monkeypatch: pytest.MonkeyPatch, *others: str | None) -> None:
    """This process is the first of several; the others' compilers fail so."""

    def all_gather_object(reasons: list[Any], reason: str | None) -> None:
        reasons[:] = [reason, *others]

    monkeypatch.setattr(collectives.dist, "get_world_size", lambda: 1 + len(others))
    monkeypatch.setattr(collectives.dist, "all_gather_object", all_gather_object)


def test_without_a_compiler_nothing_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling.shutil, "which", lambda name: None)
    module, notes = Halved(), Notes()
    assert not try_compile(module, CPU, notes)
    assert notes.lines == ["no C++ compiler (g++): the model runs uncompiled, slower"]
    assert module._compiled_call_impl is None


@needs_compiler
def test_a_compiler_that_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch._inductor.config.cpp, "cxx", ("/bin/false",))
    module, notes = Halved(), Notes()
    assert not try_compile(module, CPU, notes)
    assert notes.lines[0].startswith("torch.compile fails (")
    inputs = torch.rand(4, 3)
    assert torch.equal(module(inputs), module.forward(inputs))


@needs_compiler
def test_no_rank_compiles_where_one_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    workers(monkeypatch, None, "no C++ compiler (g++)")
    module, notes = Halved(), Notes()
    assert not try_compile(module, CPU, notes)
    assert notes.lines == ["no C++ compiler (g++): the model runs uncompiled, slower"]


@needs_compiler
def test_a_part_that_fails_later_runs_uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    module = Halved()
    assert try_compile(module, CPU, Notes())
    monkeypatch.setattr(torch._inductor.config.cpp, "cxx", ("/bin/false",))
    inputs = torch.rand(4, 3, requires_grad=True)
    loss = module(inputs).sum()
    loss.backward()
    assert torch.equal(loss, module.forward(inputs).sum())
    assert inputs.grad is not None
    assert torch.equal(inputs.grad, inputs.detach().cos() / 2)


@needs_compiler
@pytest.mark.parametrize("sizes", [(4, 5), (5, 9, 17)])
def test_a_part_whose_gradient_cannot_be_compiled_runs_uncompiled(
    monkeypatch: pytest.MonkeyPatch, sizes: tuple[int, ...]
) -> None:
    module = Halved()
    assert try_compile(module, CPU, Notes())

    def fails(*_: Any, **__: Any) -> NoReturn:
        raise RuntimeError("no such instruction")

    monkeypatch.setattr("torch._inductor.compile_fx.compile_fx_backward", fails)
    for size in sizes:  # of another size it is compiled again, with sizes that are not known
        inputs = torch.rand(size, 3, requires_grad=True)
        module(inputs).sum().backward()
        assert inputs.grad is not None
        assert torch.equal(inputs.grad, inputs.detach().cos() / 2)


@needs_compiler
def test_a_compiler_that_works_is_used() -> None:
    module, notes = Halved(), Notes()
    assert try_compile(module, CPU, notes)
    assert notes.lines == []
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    inputs = torch.rand(4, 3)
    assert torch.allclose(module(inputs), module.forward(inputs), atol=1e-6)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > before
