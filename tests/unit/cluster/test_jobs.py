from pathlib import Path

from cluster.jobs import PACKAGES, RECIPE, _gather
from cluster.recipe import shipped


def test_what_travels_is_raymills_own_code_and_the_recipe(tmp_path: Path) -> None:
    _gather(tmp_path, shipped()["quickstart"])
    assert {path.name for path in tmp_path.iterdir()} == {*PACKAGES, RECIPE}
    assert (tmp_path / RECIPE).read_text() == shipped()["quickstart"].read_text()
    assert (tmp_path / "cluster" / "__main__.py").is_file()
    assert (tmp_path / "trainers" / "recipes" / "quickstart.yaml").is_file()
    assert not list(tmp_path.rglob("__pycache__"))
    size = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert size < 1_000_000
