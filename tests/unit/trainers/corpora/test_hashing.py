import numpy as np
import pytest

from trainers.corpora.hashing import distinct


@pytest.mark.parametrize("hashes", [[], [0], [2**64 - 1, 0, 0], [5, 3, 5, 2**63, 3]])
def test_each_hash_is_there_once_in_order(hashes: list[int]) -> None:
    assert distinct(np.array(hashes, np.uint64)).tolist() == sorted(set(hashes))
