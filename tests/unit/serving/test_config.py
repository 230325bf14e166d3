import socket
from collections.abc import Iterator

import pytest

from cluster.errors import RecipeError, UserError
from cluster.recipe.loading import load_section
from serving.config import Serve


def test_a_model_is_served_with_overrides_alone() -> None:
    assert load_section("serve", []) == Serve()
    found = load_section(
        "serve", ["serve.port=9000", "serve.host=0.0.0.0", "serve.batch_wait_ms=2.5"]
    )
    assert (found.port, found.host, found.batch_wait_ms) == (9000, "0.0.0.0", 2.5)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("serve.port=many", "--set serve.port: .*whole number"),
        ("serve.port=0", "--set serve.port: .*greater than or equal to 1"),
        ("serve.prot=80", "--set serve.prot: .*did you mean 'port'"),
        ("serve.min_replicas=2", "serve.min_replicas: 2 is over max_replicas = 1"),
        ("serve.gpus_per_replica=2", "serve.gpus_per_replica: 2 is over 1: a replica computes"),
        ("finetune.epochs=3", "--set finetune.epochs: only keys of serve"),
        ("port", "expected KEY=VALUE"),
    ],
)
def test_a_bad_override_is_refused(override: str, says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        load_section("serve", [override])


@pytest.mark.parametrize(
    ("replicas", "each", "expected"),
    [
        (2, 0.0, {"CPU": 2}),
        (2, 1.0, {"CPU": 2, "GPU": 2}),
        (0, 0.25, {"CPU": 1, "GPU": 0.25}),
        (3, 0.4, {"CPU": 3, "GPU": 1.4}),  # two on a GPU, and one on the next
    ],
)
def test_replicas_hold_gpus(replicas: int, each: float, expected: dict[str, float]) -> None:
    settings = Serve(min_replicas=replicas, max_replicas=4, gpus_per_replica=each)
    assert settings.resources == pytest.approx(expected)


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_port_in_use_is_refused(listening: socket.socket, host: str) -> None:
    port = listening.getsockname()[1]
    says = rf"serve\.port: {host}:{port} cannot be used: Address already in use; set another"
    with pytest.raises(UserError, match=says):
        Serve(host=host, port=port).refuse_port_in_use()


def test_a_free_port_is_left_free(listening: socket.socket) -> None:
    port = listening.getsockname()[1]
    listening.close()
    for _ in range(2):
        Serve(port=port).refuse_port_in_use()


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(UserError, match=r"serve\.port: 192\.0\.2\.1:8000 cannot be used"):
        Serve(host="192.0.2.1").refuse_port_in_use()
