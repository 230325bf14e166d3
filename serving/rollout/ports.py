"""Is the port free? Asked before a run of minutes, not after it."""

import socket

from cluster.errors import UserError
from serving.config import Serve


def refuse_port_in_use(settings: Serve) -> None:
    """Raises UserError if something listens already where the endpoint should."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            raise UserError(
                f"serve.port: {settings.host}:{settings.port} cannot be used: {error.strerror}; "
                "set another, such as --set serve.port=8001"
            ) from error
