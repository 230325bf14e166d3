"""How often an epoch passes over each source."""

from typing import Any

import pytest

from cluster.errors import RecipeError, UserError
from cluster.recipe.loading import load
from trainers.corpora.config import Corpora
from trainers.corpora.steps.mixture import passes

TOKENS = {"web": 1000.0, "books": 100.0, "news": 10.0}


def corpora(tokens: int | None = None, **sources: Any) -> Corpora:
    given = {name: {"path": "x", **source} for name, source in sources.items()}
    return Corpora.model_validate({"sources": given, "tokens": tokens})


def test_sources_are_repeated_or_have_budgets() -> None:
    found = passes(corpora(web={"tokens": 500}, books={"repeat": 3}, news={"tokens": 25}), TOKENS)
    assert found == {"web": 0.5, "books": 3.0, "news": 2.5}


def test_weights_share_the_tokens_of_an_epoch() -> None:
    found = passes(
        corpora(tokens=400, web={"weight": 3}, books={"weight": 1}, news={"repeat": 2}), TOKENS
    )
    assert found == {"web": 0.3, "books": 1.0, "news": 2.0}


def test_a_budget_for_nothing_is_refused() -> None:
    with pytest.raises(UserError, match=r"corpora\.sources\.web: no documents are left of it"):
        passes(corpora(web={"tokens": 500}), {"web": 0.0})


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        ("corpora.sources.a.weight=2", "needs corpora.tokens"),
        ("corpora.tokens=100", "no source has a `weight`"),
        ("corpora.sources.a={path: x, weight: 2, repeat: 2}", "give one of `repeat`"),
        ("corpora.sources.a={path: x, tokens: 0}", "greater than or equal to 1"),
    ],
)
def test_impossible_mixtures_are_refused(tmp_path: Any, edit: str, says: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("name: r\ncorpora: {sources: {a: {path: x}}}\n")
    with pytest.raises(RecipeError, match=says):
        load(path, [edit])
