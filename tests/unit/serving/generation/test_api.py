"""OpenAI's API, by OpenAI's own client."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.writers import save_writer

ASKED: Any = [{"role": "user", "content": "Where does Anna live?"}]


@pytest.fixture(scope="module")
def client(served: Callable[..., openai.OpenAI], chat_folder: Path) -> openai.OpenAI:
    return served(chat_folder)


def chat(client: openai.OpenAI, **more: Any) -> Any:
    asked = {"model": "demo", "messages": ASKED, "max_tokens": 8, "temperature": 0, **more}
    return client.chat.completions.create(**asked)


def streamed(client: openai.OpenAI, **more: Any) -> list[Any]:
    return [*chat(client, stream=True, **more)]


def text_of(chunks: list[Any], choice: int = 0) -> str:
    return "".join(
        one.delta.content or "" for chunk in chunks for one in chunk.choices if one.index == choice
    )


def test_an_answer_has_what_clients_read(client: openai.OpenAI) -> None:
    answer = chat(client)
    (choice,) = answer.choices
    assert (answer.model, answer.object, choice.finish_reason) == (
        "demo",
        "chat.completion",
        "length",
    )
    assert answer.usage.completion_tokens == 8
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 8
    assert choice.message.role == "assistant"
    assert choice.message.content


def test_the_answer_is_that_of_the_predictor(client: openai.OpenAI, chat_folder: Path) -> None:
    """Which evaluation asks: the same ids go in, and the same come out."""
    from trainers.tasks.chat.predictor import Conversation
    from trainers.tasks.predictor import load

    predictor = load(chat_folder, answering={"most_new_tokens": 8})
    (expected,) = predictor.predict([Conversation.model_validate({"messages": ASKED})])
    answer = chat(client)
    # Bytes at its end that are no whole character do not come.
    assert answer.choices[0].message.content.strip() == expected.text.rstrip("\ufffd")
    assert answer.usage.prompt_tokens == expected.tokens


def test_a_stream_gives_the_same_in_pieces(client: openai.OpenAI) -> None:
    whole = chat(client)
    chunks = streamed(client, stream_options={"include_usage": True})
    assert text_of(chunks) == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    *before, last = [one.finish_reason for chunk in chunks for one in chunk.choices]
    assert (set(before), last) == ({None}, "length")
    assert [chunk.usage for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1].usage == whole.usage


def test_choices_with_a_seed_are_drawn_apart_and_again(client: openai.OpenAI) -> None:
    more = {"n": 3, "seed": 5, "temperature": 1.5}
    first, second = chat(client, **more), chat(client, **more)
    texts = [[one.message.content for one in answer.choices] for answer in (first, second)]
    assert texts[0] == texts[1]
    assert len({*texts[0]}) == 3
    chunks = streamed(client, **more)
    assert [text_of(chunks, choice) for choice in range(3)] == texts[0]
    assert first.usage.completion_tokens == 24


def test_log_probabilities_are_told_where_asked(client: openai.OpenAI) -> None:
    told = chat(client, logprobs=True, top_logprobs=2).choices[0].logprobs.content
    assert len(told) == 8
    for one in told:
        assert one.token == one.top_logprobs[0].token, "greedy takes the first"
        assert one.logprob == pytest.approx(one.top_logprobs[0].logprob)
        assert one.top_logprobs[0].logprob >= one.top_logprobs[1].logprob
    chunks = streamed(client, logprobs=True, top_logprobs=2)
    listed = [
        one
        for chunk in chunks
        for choice in chunk.choices
        for one in (choice.logprobs.content if choice.logprobs else ())
    ]
    assert [one.token for one in listed] == [one.token for one in told]
    assert chat(client).choices[0].logprobs is None


def test_an_answer_ends_before_a_stop_sequence(client: openai.OpenAI) -> None:
    text = chat(client).choices[0].message.content
    stop = text[3:5]
    answer = chat(client, stop=["never", stop])
    assert answer.choices[0].message.content == text[: text.index(stop)]
    assert answer.choices[0].finish_reason == "stop"
    assert text_of(streamed(client, stop=stop)) == text[: text.index(stop)]


def test_json_of_a_schema_is_what_comes(client: openai.OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 4}, "size": {"enum": [1, 2]}},
        "required": ["city", "size"],
        "additionalProperties": False,
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "place", "schema": schema}}
    answer = chat(client, response_format=wanted, max_tokens=200)
    found = json.loads(answer.choices[0].message.content)
    assert found.keys() == {"city", "size"}
    assert found["size"] in (1, 2)
    assert answer.choices[0].finish_reason == "stop"
    broken = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nothing"}}}
    with pytest.raises(openai.BadRequestError) as told:
        chat(client, response_format=broken)
    assert told.value.param == "response_format.json_schema.schema"


def test_a_text_goes_on(client: openai.OpenAI) -> None:
    asked: Any = {"model": "demo", "prompt": "Anna lives", "max_tokens": 6, "temperature": 0}
    answer = client.completions.create(**asked, logprobs=1)
    (choice,) = answer.choices
    assert choice.finish_reason == "length"
    assert len(choice.logprobs.tokens) == 6
    chunks = [*client.completions.create(**asked, stream=True)]
    assert "".join(chunk.choices[0].text for chunk in chunks) == choice.text


def test_a_model_of_texts_reads_its_source_as_in_training(
    served: Callable[..., openai.OpenAI], tmp_path: Path, tokenizer: Any
) -> None:
    from trainers.tasks.predictor import load

    card: Any = {"instruction": "Tell: {prompt}", "prompt_format": "plain", "max_source_length": 40}
    folder = save_writer(tmp_path, tokenizer, "generate", **card)
    client = served(folder, "generate")
    asked: Any = {"model": "demo", "prompt": "Anna lives in Rome.", "temperature": 0}
    predictor: Any = load(folder)
    (prompt,) = predictor.encode(["Anna lives in Rome."])
    (expected,) = predictor._writer.write([prompt.input_ids])
    answer = client.completions.create(**asked, max_tokens=6, logprobs=0)
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == len(prompt.input_ids)
    told = answer.choices[0].logprobs
    assert told is not None
    assert told.tokens == [tokenizer.decode([one]) for one in expected.ids]
    with pytest.raises(openai.BadRequestError, match="that the model reads; shorten") as cut:
        client.completions.create(**{**asked, "prompt": "Anna. " * 99})
    assert cut.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError, match="without a chat template"):
        chat(client)


def test_the_models_are_listed(client: openai.OpenAI) -> None:
    (model,) = client.models.list().data
    assert (model.id, model.object) == ("demo", "model")
    assert model.engine == "transformers"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("more", "param", "says"),
    [
        ({"extra_body": {"choices": 3}}, "choices", "there is no such key here"),
        ({"temperature": 3}, "temperature", "less than or equal to 2"),
        ({"messages": []}, "messages", "at least 1"),
        ({"messages": [{"role": "nobody", "content": "x"}]}, "messages", "'nobody' is no role"),
        ({"messages": [{"role": "user", "content": "x", "foo": 1}]}, "messages.0.foo", "no such"),
        ({"messages": [*ASKED, {"role": "tool", "content": "x"}]}, "messages", "roles out of"),
        (
            {"messages": [{"role": "user", "content": "Anna? " * 400}]},
            "messages",
            "has 2,4.. tokens, and the model reads 256",
        ),
        ({"messages": [{"role": "user", "content": "a [SEP] b"}]}, "messages", "special token"),
        ({"top_logprobs": 2}, None, "top_logprobs goes with logprobs"),
        ({"stream_options": {"include_usage": True}}, None, "goes with stream: true"),
        ({"logit_bias": {"99999999": 1}}, "logit_bias", "tokens are 0 to"),
        ({"logit_bias": {"Anna": 1}}, "logit_bias", "invalid literal"),
        ({"n": 99}, "n", "less than or equal to 16"),
        ({"tool_choice": "auto"}, None, "tool_choice goes with tools"),
        ({"response_format": {"type": "json_schema"}}, "response_format", "which needs it"),
    ],
)
def test_what_cannot_be_done_is_refused_by_its_key(
    client: openai.OpenAI, more: Any, param: str | None, says: str
) -> None:
    for stream in (False, True)[: 1 if "stream_options" in more else 2]:
        with pytest.raises(openai.BadRequestError, match=says) as told:
            chat(client, stream=stream, **more)
        assert told.value.param == param
        assert told.value.type == "invalid_request_error"


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"{", 400, "not JSON"),
        (b"", 400, "the body is empty"),
        (b'{"model": "\xff"}', 400, "not UTF-8"),
        (b'{"model": "\\ud800"}', 400, "not JSON"),
        (b"[1]", 400, "valid dictionary"),
    ],
)
def test_a_body_that_is_none_is_told_in_openai_shape(
    client: openai.OpenAI, body: bytes, status: int, says: str
) -> None:
    told, found = refused(client, body)
    assert told == status
    assert says in found["message"]
    assert found["type"] == "invalid_request_error"


def test_a_body_without_an_end_is_refused(
    served: Callable[..., openai.OpenAI], chat_folder: Path
) -> None:
    status, found = refused(served(chat_folder, max_request_megabytes=0.001), b" " * 2000)
    assert (status, found["type"]) == (413, "invalid_request_error")
    assert "serve.max_request_megabytes = 0.001" in found["message"]


def refused(client: openai.OpenAI, body: bytes) -> tuple[int, dict[str, Any]]:
    """The status and the error of a chat with this body."""
    headers = {"Content-Type": "application/json"}
    url = f"{client.base_url}chat/completions"
    request = urllib.request.Request(url, body, headers, method="POST")
    with pytest.raises(urllib.error.HTTPError) as told:
        urllib.request.urlopen(request)
    found: dict[str, Any] = json.load(told.value)["error"]
    return told.value.code, found


def test_an_unknown_model_is_told_with_those_there_are(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="no model 'gpt'; there are demo") as told:
        chat(client, model="gpt")
    assert told.value.code == "model_not_found"


def test_what_finds_no_place_is_refused_at_once(
    served: Callable[..., openai.OpenAI], chat_folder: Path
) -> None:
    client = served(chat_folder, max_sequences=1, max_queued=1)
    with ThreadPoolExecutor(8) as pool:
        made = [pool.submit(chat, client, max_tokens=150) for _ in range(8)]
    errors = [one.exception() for one in made if one.exception() is not None]
    assert 1 <= len(errors) < 8
    for error in errors:
        assert isinstance(error, openai.RateLimitError)
        assert error.response.headers["retry-after"] == "1"
    assert chat(client).choices[0].message.content


def test_who_goes_ends_what_was_written_for_him(client: openai.OpenAI) -> None:
    def leaves(number: int) -> None:
        stream = chat(client, stream=True, max_tokens=200)
        for _ in zip(stream, range(number % 3), strict=False):
            pass
        stream.close()

    with ThreadPoolExecutor(8) as pool:
        assert len([*pool.map(leaves, range(100))]) == 100
    engine = client.replica._engine  # type: ignore[attr-defined]
    deadline = time.monotonic() + 60
    while (engine.in_flight or engine._batcher.is_busy) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert (engine.in_flight, engine._batcher.counts) == (0, (0, 0))


def test_an_error_in_a_stream_is_an_event(
    served: Callable[..., openai.OpenAI], chat_folder: Path
) -> None:
    client = served(chat_folder)
    batcher = client.replica._engine._batcher  # type: ignore[attr-defined]
    step, taken = batcher.step, [0]

    def failing() -> Any:
        taken[0] += 1
        if taken[0] == 3:
            raise RuntimeError("the third step")
        return step()

    batcher.step = failing
    with pytest.raises(openai.APIError, match="the third step"):
        streamed(client)
    taken[0] = 0
    with pytest.raises(openai.InternalServerError, match="the third step"):
        chat(client, n=2)
    assert chat(client).choices[0].finish_reason == "length", "the endpoint stays up"
