import socket
from collections.abc import Iterator

import pytest

from cluster.errors import UserError
from serving.config import Serve
from serving.rollout.ports import refuse_port_in_use


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
        refuse_port_in_use(Serve(host=host, port=port))


def test_a_free_port_is_left_free(listening: socket.socket) -> None:
    port = listening.getsockname()[1]
    listening.close()
    for _ in range(2):
        refuse_port_in_use(Serve(port=port))


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(UserError, match=r"serve\.port: 192\.0\.2\.1:8000 cannot be used"):
        refuse_port_in_use(Serve(host="192.0.2.1"))
