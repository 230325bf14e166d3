"""Faults at random and many of them, and what takes long: by hand, `pytest tests/chaos`."""

from tests.integration.conftest import raymill, start

__all__ = ["raymill", "start"]
