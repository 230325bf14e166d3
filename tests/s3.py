"""A real S3 server on loopback, for tests of remote workspaces: moto behind HTTP.

    from tests.s3 import s3_server  # noqa: F401  the fixture

A workspace in it is `s3_server.workspace()`. Credentials stand in the environment, as a user's
would, so commands and Ray workers that a test starts have them too.
"""

import dataclasses
import logging
import uuid
from collections.abc import Iterator

import pyarrow.fs as pafs
import pytest


@dataclasses.dataclass(frozen=True)
class S3Server:
    endpoint: str
    """HOST:PORT"""

    def workspace(self) -> str:
        """The URI of a new, empty workspace, with a bucket of its own."""
        bucket = f"bucket-{uuid.uuid4().hex[:8]}"
        pafs.S3FileSystem(
            endpoint_override=self.endpoint,
            scheme="http",
            region="us-east-1",
            allow_bucket_creation=True,
        ).create_dir(bucket)
        return f"s3://{bucket}/mill?endpoint_override={self.endpoint}&scheme=http&region=us-east-1"


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it logs every request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        yield S3Server(f"{host}:{port}")
    server.stop()
