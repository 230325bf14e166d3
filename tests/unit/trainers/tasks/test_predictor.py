"""Encoding for all users of a model: no more work than the model's length asks for, whatever a text
holds, from several threads at once."""

import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from cluster.errors import UserError
from tests.classifiers import save_classifier
from tests.fakes import TEXTS
from trainers.corpora.cleaning.config import Clean
from trainers.corpora.config import Tokenizer
from trainers.corpora.tokens.tokenizer import train
from trainers.tasks import predictor
from trainers.tasks.classify.predictor import ClassifyPredictor, Prediction
from trainers.tasks.encoding import (
    CHARACTERS_PER_TOKEN,
    LONGEST_WORD,
    batches,
    encode,
    encode_raw,
)
from trainers.tasks.predictor import inference_dtype, load

MAX_LENGTH = 16


class Counting:
    """A tokenizer that counts the characters it is given."""

    def __init__(self, tokenizer: Any):
        self._tokenizer = tokenizer
        self.characters = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def __call__(self, texts: list[str], **named: Any) -> Any:
        self.characters += sum(map(len, texts))
        return self._tokenizer(texts, **named)


@pytest.mark.parametrize("text", ["很好非常满意吗", "word ", "很好，\n", "1 "])
def test_of_a_text_of_megabytes_the_beginning_is_tokenized(tokenizer: Any, text: str) -> None:
    counting, long = Counting(tokenizer), text * (2_500_000 // len(text))
    (one,) = encode(counting, [long], MAX_LENGTH)
    assert (len(one.input_ids), one.length, one.is_cut) == (MAX_LENGTH, None, True)
    assert counting.characters == CHARACTERS_PER_TOKEN * MAX_LENGTH
    (raw,) = encode_raw(counting, [long], MAX_LENGTH, Clean())
    assert raw.input_ids == one.input_ids
    assert counting.characters <= 20_000


def test_a_word_without_end_is_not_tokenized_to_its_end() -> None:
    tokenizer = train(TEXTS, Tokenizer(vocabulary_size=300, algorithm="wordpiece"), max_length=64)
    counting = Counting(tokenizer)
    (one,) = encode(counting, ["a" * 5_000_000], MAX_LENGTH)
    assert (len(one.input_ids), one.is_cut) == (3, True)
    assert counting.characters <= 2 * LONGEST_WORD
    shorter = "a" * 5000 + " b"
    (one,) = encode(tokenizer, [shorter], MAX_LENGTH)
    assert one.input_ids == tokenizer(shorter)["input_ids"]


def test_texts_are_cut_and_keep_their_ends(tokenizer: Any) -> None:
    short, long = encode(tokenizer, ["好", TEXTS[0] * 5], max_length=8)
    ends = (tokenizer.cls_token_id, tokenizer.sep_token_id)
    assert (long.input_ids[0], long.input_ids[-1]) == ends
    assert (len(long.input_ids), long.is_cut) == (8, True)
    assert long.length == len(tokenizer(TEXTS[0] * 5)["input_ids"])
    assert (short.length, short.is_cut) == (len(short.input_ids), False)
    assert encode(tokenizer, [], max_length=8) == []


def test_names_of_special_tokens_are_text(tokenizer: Any) -> None:
    (one,) = encode(tokenizer, ["a[SEP] b [MASK][PAD]"], 64)
    assert not set(one.input_ids[1:-1]) & set(tokenizer.all_special_ids)


def test_names_of_special_tokens_are_text_to_a_tokenizer_of_bert(tmp_path: Path) -> None:
    from transformers import BertTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[", "]", "sep", "mask", "a"]
    (tmp_path / "vocab.txt").write_text("\n".join(words), "utf-8")
    tokenizer = BertTokenizerFast(str(tmp_path / "vocab.txt"))
    (one,) = encode(tokenizer, ["a [SEP] [MASK]"], 64)
    assert tokenizer.convert_ids_to_tokens(one.input_ids) == [
        *("[CLS]", "a", "[", "sep", "]", "[", "mask", "]", "[SEP]")
    ]


def test_a_predictor_encodes_from_several_threads(tokenizer: Any, tmp_path: Path) -> None:
    """As in an endpoint: `Already borrowed` is what a tokenizer says that one thread sets up while
    another encodes."""
    predictor = load(save_classifier(tmp_path, tokenizer))
    expected = predictor.encode(TEXTS)
    differing: list[Any] = []

    def work() -> None:
        for _ in range(50):
            if predictor.encode(TEXTS) != expected:
                differing.append(threading.get_ident())

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert differing == []


def test_forwards_are_of_similar_lengths_and_bounded_tokens() -> None:
    lengths = [5, 100, 6, 90, 5, 1000]
    found = batches(lengths, most_tokens=200)
    assert sorted(place for group in found for place in group) == list(range(6))
    assert found == [[0, 4, 2], [3, 1], [5]]
    for group in found:
        assert len(group) == 1 or len(group) * max(lengths[place] for place in group) <= 200
    assert batches([], most_tokens=200) == []


def test_a_gpu_that_lacks_memory_takes_fewer_tokens_at_once(tokenizer: Any, tmp_path: Path) -> None:
    answering = load(save_classifier(tmp_path, tokenizer))
    expected, sizes = answering.predict(TEXTS), []

    def forward(module: Any, _: Any, inputs: dict[str, torch.Tensor]) -> None:
        sizes.append(inputs["input_ids"].numel())
        if sizes[-1] > most:
            raise torch.OutOfMemoryError("CUDA out of memory")

    answering.model.register_forward_pre_hook(forward, with_kwargs=True)
    answering._limit.tokens = 4 * MAX_LENGTH
    most = 2 * MAX_LENGTH
    assert [one.label for one in answering.predict(TEXTS)] == [one.label for one in expected]
    assert max(sizes) > most >= max(sizes[-2:]), "and goes on so"
    most = 1
    with pytest.raises(torch.OutOfMemoryError):
        answering.predict(TEXTS)


@pytest.mark.parametrize(
    ("trained_in", "device", "has_bf16", "expected"),
    [
        ("bf16", "cpu", True, torch.float32),
        ("bf16", "cuda", True, torch.bfloat16),
        ("bf16", "cuda", False, torch.float32),  # fp16 has not its range
        ("fp16", "cuda", True, torch.float16),
        ("fp32", "cuda", True, torch.float32),
        (None, "cuda", True, torch.float32),
    ],
)
def test_a_model_answers_on_a_gpu_in_what_it_was_trained_in(
    trained_in: str | None,
    device: str,
    has_bf16: bool,
    expected: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(predictor, "multiplies_bf16", lambda device: has_bf16)
    card = {} if trained_in is None else {"metrics": {"precision": trained_in}}
    assert inference_dtype(card, torch.device(device)) == expected


@pytest.mark.parametrize("threshold", [None, 0.5])
def test_answers_keep_the_order_of_the_texts(
    tokenizer: Any, tmp_path: Path, threshold: float | None
) -> None:
    predictor = load(save_classifier(tmp_path, tokenizer, threshold=threshold))
    texts = [*TEXTS[::-1], *TEXTS, "好"]
    for text, output in zip(texts, predictor.predict(texts), strict=True):
        (alone,) = predictor.predict([text])
        assert alone.label == output.label
        assert output.probabilities == pytest.approx(alone.probabilities, abs=1e-6)
    assert predictor.predict([]) == []


def test_a_model_that_a_node_lacks_is_not_told_as_damaged(tokenizer: Any, tmp_path: Path) -> None:
    hashes = {"config.json": "0"}
    with pytest.raises(UserError, match=r"/gone is not on the node .*; put the model where every"):
        load(tmp_path / "gone", hashes=hashes)
    folder = save_classifier(tmp_path, tokenizer)
    (folder / "config.json").unlink()
    with pytest.raises(UserError, match=r"is damaged: config\.json is not there; copy it again"):
        load(folder, hashes=hashes)


def test_of_several_labels_the_least_certain_decision_counts() -> None:
    """With a threshold of 0.3, "good" is given."""
    probabilities = {"good": 0.31, "bad": 0.02}
    given = Prediction(label=["good"], probabilities=probabilities, tokens=3, truncated=False)
    assert ClassifyPredictor.certainty(object(), given) == 0.31
    kept_back = given.model_copy(update={"label": []})
    assert ClassifyPredictor.certainty(object(), kept_back) == 0.69
