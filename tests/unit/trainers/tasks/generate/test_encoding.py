"""How a prompt is read: as any tokenizer reads the text, and up to a limit."""

from typing import Any

import pytest

from cluster.errors import UserError
from trainers.tasks.generate.encoding import Reading, completion_ids, encode_prompts

PROMPT = "今天天气很好，我们去公园散步。"
AROUND = "Hello: {prompt}\nThis is:"


def ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False).input_ids)


@pytest.mark.parametrize("is_encoded", [True, False])
def test_what_fits_is_read_as_the_text_that_it_is(tokenizer: Any, is_encoded: bool) -> None:
    (one,) = encode_prompts(tokenizer, [PROMPT], Reading(AROUND, 256, is_encoded))
    expected = tokenizer(AROUND.replace("{prompt}", PROMPT)).input_ids
    assert [*one.input_ids] == (expected if is_encoded else expected[:-1])
    assert not one.is_cut


@pytest.mark.parametrize("is_encoded", [True, False])
def test_of_a_long_prompt_the_end_is_not_read(tokenizer: Any, is_encoded: bool) -> None:
    (one,) = encode_prompts(tokenizer, [PROMPT * 50], Reading(AROUND, 40, is_encoded))
    read, behind = [*one.input_ids], ids(tokenizer, "\nThis is:")
    assert one.is_cut
    assert len(read) == (40 if is_encoded else 39)
    ending = [tokenizer.sep_token_id] if is_encoded else []
    assert read[-len(behind + ending) :] == behind + ending
    before = tokenizer(f"Hello: {PROMPT * 50}").input_ids
    kept = len(read) - len(behind + ending)
    assert read[:kept] == before[:kept]


def test_the_name_of_a_special_token_is_text(tokenizer: Any) -> None:
    (one,) = encode_prompts(tokenizer, ["a [SEP] b"], Reading("{prompt}", 64, False))
    assert tokenizer.sep_token_id not in one.input_ids
    assert completion_ids(tokenizer, "a [SEP] b").count(tokenizer.sep_token_id) == 1


def test_a_completion_has_its_end(tokenizer: Any) -> None:
    assert completion_ids(tokenizer, "很好") == [*ids(tokenizer, "很好"), tokenizer.sep_token_id]


def test_an_instruction_without_room_for_a_prompt_is_refused(tokenizer: Any) -> None:
    with pytest.raises(UserError, match=r"finetune\.max_source_length: 8 tokens have no room"):
        encode_prompts(tokenizer, [PROMPT], Reading("{prompt}\n" + PROMPT * 3, 8, True))
