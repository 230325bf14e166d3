import pytest

from trainers.corpora.text_batches import batched

TEXTS = ["", "ab", "cdefgh", "i", "", "jk"]


@pytest.mark.parametrize("characters", [1, 3, 8, 100])
def test_every_text_is_in_one_batch_in_order(characters: int) -> None:
    batches = list(batched(iter(TEXTS), characters))
    assert [text for batch in batches for text in batch] == TEXTS
    for batch in batches:
        assert sum(map(len, batch[:-1])) < characters
    assert all(sum(map(len, batch)) >= characters for batch in batches[:-1])
