import random
import resource
from pathlib import Path

import pytest

from serving.rollout import ingress


def test_two_rays_on_a_machine_share_no_file_and_no_port(tmp_path: Path) -> None:
    random.seed(17)  # no port is taken meanwhile, so two draws may be one
    first, second = (ingress.environment(tmp_path / name) for name in ("a", "b"))
    assert first[ingress.SWITCH] == "1"
    assert not ingress.is_missing(first)
    ports = [
        value
        for settings in (first, second)
        for name, value in settings.items()
        if name.endswith("_PORT")
    ]
    assert len(set(ports)) == 6
    shared = {name for name in first if first[name] == second[name]}
    assert shared == {ingress.SWITCH, "RAY_SERVE_HAPROXY_MAXCONN"}


@pytest.mark.parametrize(
    ("open_files", "connections"),
    [(1024, 369), (10_276, 4070), (10_340, 4096), (1 << 20, 4096), (resource.RLIM_INFINITY, 4096)],
)
def test_haproxy_takes_as_many_connections_as_files_may_be_open(
    open_files: int, connections: int
) -> None:
    assert ingress.most_connections(open_files) == connections


def test_without_haproxy_it_is_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingress, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert ingress.is_missing(ingress.environment(tmp_path))


def test_a_cluster_that_was_there_has_its_own_ingress() -> None:
    assert not ingress.is_missing({})
