"""That pretraining would hold nothing out is told before anything runs."""

from pathlib import Path

import pytest

from cluster.errors import RecipeError
from cluster.recipe.loading import load


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def refused(documents: int, keys: str = "") -> str:
    Path("a.txt").write_text("".join(f"text {number}\n" for number in range(documents)))
    recipe = "name: demo\ncorpora:\n  sources:\n    mine: {path: a.txt, label: x}\n"
    Path("r.yaml").write_text(f"{recipe}{keys}")
    try:
        load("r.yaml", looks=True)
    except RecipeError as error:
        return str(error)
    return ""


def test_a_share_that_draws_no_document_is_told() -> None:
    assert refused(10) == (
        "r.yaml:2: corpora.validation: no documents left for validation: none of 10 is drawn for a "
        "share of 0.02; raise it, or give more documents"
    )
    assert refused(10, "  validation: 0.001\n").startswith("r.yaml:5: corpora.validation: no doc")
    assert refused(10, "  validation: 0.4\n") == ""
    assert refused(1000) == ""


def test_what_pretraining_does_not_read_is_not_drawn_from() -> None:
    other = "    other: {path: a.txt, label: y, repeat: 0}\n"
    assert "none of 10 is drawn" in refused(10, other)
    assert refused(10, f"{other}finetune: {{base: some/model}}\n") == "", "nothing is pretrained"
