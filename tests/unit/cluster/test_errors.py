import pickle

import pytest

from cluster.errors import (
    GateRefused,
    InfrastructureError,
    RaymillError,
    RecipeError,
    UserError,
)

STATUSES = {
    RaymillError: 3,
    UserError: 2,
    RecipeError: 2,
    InfrastructureError: 3,
    GateRefused: 4,
}


@pytest.mark.parametrize("kind", STATUSES)
def test_the_class_decides_the_exit_status(kind: type[RaymillError]) -> None:
    assert kind("x").exit_status == STATUSES[kind]


@pytest.mark.parametrize("kind", STATUSES)
def test_errors_come_whole_from_other_processes(kind: type[RaymillError]) -> None:
    error = pickle.loads(pickle.dumps(kind("news.txt:3: mend it")))
    assert type(error) is kind
    assert str(error) == "news.txt:3: mend it"
