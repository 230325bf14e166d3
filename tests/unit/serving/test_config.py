import pytest

from cluster.errors import RecipeError
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
        ("finetune.epochs=3", "--set finetune.epochs: only keys of serve"),
        ("port", "expected KEY=VALUE"),
    ],
)
def test_a_bad_override_is_refused(override: str, says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        load_section("serve", [override])
