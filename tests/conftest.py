"""How the suite is shared out: in two processes, and in one where a path is given."""

import signal
from collections.abc import Iterator

import pytest

# In the background of a script, tests and the commands they start would be deaf to Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _ctrl_c() -> Iterator[None]:
    """As it was: `main` of a command in the process of a test takes it over."""
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    return 2 if config.args_source is config.ArgsSource.TESTPATHS else 0


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All that use the first run stay in one process, and so do the other tests of a module."""
    for item in items:
        uses_first_run = "first_run" in getattr(item, "fixturenames", ())
        group = "first run" if uses_first_run else item.location[0]
        item.add_marker(pytest.mark.xdist_group(group))
