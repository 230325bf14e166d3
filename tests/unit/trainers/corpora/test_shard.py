"""What the stage refuses to make."""

import pytest

from cluster.errors import UserError
from trainers.corpora.shard import _refuse_empty_mixture


def test_a_mixture_without_a_training_sequence_is_refused() -> None:
    with pytest.raises(UserError, match="the mixture leaves no training sequence; raise `tokens`"):
        _refuse_empty_mixture({"splits": {"train": {"sequences": 0}}})  # type: ignore[typeddict-item]
