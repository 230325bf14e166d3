"""Faults at random, and many of them: `pytest tests/chaos`. The default suite has a short form of
each."""

from tests.integration.conftest import raymill, start

__all__ = ["raymill", "start"]
