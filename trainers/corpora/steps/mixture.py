"""How often an epoch of pretraining passes over each source. Pure.

A source has `repeat` (passes), `tokens` (a budget), or `weight` (its share of `corpora.tokens`). A
budget smaller than the source takes a part of its documents, a larger one repeats them. Up to four
passes are nearly as good as new text (Muennighoff et al. 2023, Scaling Data-Constrained Language
Models).
"""

from collections.abc import Mapping

from cluster.errors import UserError
from trainers.corpora.config import Corpora

WORTHWHILE_PASSES = 4


def passes(corpora: Corpora, tokens: Mapping[str, float]) -> dict[str, float]:
    """Passes over each source in `tokens`, which says how many it has, if it has a budget.

    Raises UserError where there is a budget for a source without documents.
    """
    weights = {
        name: source.weight for name, source in corpora.sources.items() if source.weight is not None
    }
    found: dict[str, float] = {}
    for name, source in corpora.sources.items():
        if name not in tokens:
            continue
        budget = source.tokens
        if name in weights:
            assert corpora.tokens is not None, "corpora.tokens is checked with the weights"
            budget = round(corpora.tokens * weights[name] / sum(weights.values()))
        if budget is None:
            found[name] = float(source.repeat)
        elif tokens[name] > 0:
            found[name] = budget / tokens[name]
        else:
            raise UserError(
                f"corpora.sources.{name}: no documents are left of it for its {budget:,} tokens; "
                "mend its cleaning, or give it no budget"
            )
    return found
