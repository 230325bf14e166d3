"""What the endpoint says over HTTP: answers of a real model, and refusals in words."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.classifiers import LABELS, MAX_LENGTH, save_classifier

LONG = "今天天气很好，我们去公园散步。" * 40
JSON = {"content-type": "application/json"}
ONE = b'{"texts": ["a"]}'


@pytest.fixture(scope="module")
def client(replica: Callable[..., Any]) -> TestClient:
    return TestClient(replica(max_inputs=8, max_request_megabytes=0.1).__serve_build_asgi_app__())


def post(client: TestClient, body: bytes, **headers: str) -> tuple[int, str]:
    answer = client.post("/v1/classify", content=body, headers={**JSON, **headers})
    if answer.status_code == 200:
        return 200, ""
    assert list(answer.json()) == ["detail"], "in words, and the body is not sent back"
    return answer.status_code, answer.json()["detail"]


def test_an_answer_says_how_much_of_a_text_was_read(client: TestClient) -> None:
    answer = client.post("/v1/classify", json={"texts": ["很好", LONG]}).json()
    assert (answer["model"], answer["version"]) == ("demo", "0a")
    short, long = answer["predictions"]
    assert (short["tokens"] < MAX_LENGTH, short["truncated"]) == (True, False)
    assert (long["tokens"], long["truncated"]) == (MAX_LENGTH, True)
    for prediction in (short, long):
        assert list(prediction["probabilities"]) == list(LABELS)
        assert sum(prediction["probabilities"].values()) == pytest.approx(1)
        assert prediction["probabilities"][prediction["label"]] == max(
            prediction["probabilities"].values()
        )


def test_a_text_that_must_not_be_cut_is_refused_with_its_length(client: TestClient) -> None:
    assert post(client, json.dumps({"texts": ["很好"], "truncate": False}).encode())[0] == 200
    body = {"texts": ["很好", "很好" * 20, LONG * 20], "truncate": False}
    status, says = post(client, json.dumps(body, ensure_ascii=False).encode())
    assert status == 413
    assert says == (
        "texts.1 has 22 tokens, more than the 16 tokens that the model reads; "
        "texts.2 has more than the 16 tokens that the model reads: "
        'shorten what is longer, or leave "truncate": false out'
    )


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"", 422, "the body is empty; send a JSON object"),
        (b"[1]", 422, "the body is no JSON object"),
        (b'{"texts": [}', 422, "the body is not JSON: expected value at line 1 column 12"),
        ('{"texts": ["很好"]}'.encode("gbk"), 422, "the body is not UTF-8, as JSON must be: byte"),
        ('{"texts": ["很好"]}'.encode("utf-16"), 422, "the body is not UTF-8, as JSON must be: by"),
        (b"[" * 5000, 422, "the body is nested too deep: recursion limit exceeded at line 1"),
        (b'{"texts": ' + b'{"a":' * 1500, 422, "the body is nested too deep: recursion limit ex"),
        (b'{"texts": ["\\ud800"]}', 422, "the body is not JSON: unexpected end of hex escape"),
        (b"{}", 422, "texts: missing"),
        (b'{"texts": []}', 422, "texts: List should have at least 1 item"),
        (b'{"texts": "a"}', 422, "texts: Input should be a valid list"),
        (b'{"texts": ["a", null]}', 422, "texts.1: Input should be a valid string"),
        (b'{"texts": ["a"], "truncate": "maybe"}', 422, "truncate: Input should be a valid bool"),
        (b'{"txts": ["a"], "texts": ["a"]}', 422, "txts: unknown key; known: texts, truncate"),
        (json.dumps(dict.fromkeys(map(str, range(999)))).encode(), 422, "the body has 999 keys"),
        (json.dumps({"texts": ["a"] * 9}).encode(), 413, "9 texts in one request, at most 8"),
        (b"a" * 100_001, 413, "the body is over serve.max_request_megabytes = 0.1; send fewer"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_body_that_was_not_asked_for_is_refused_in_words(
    client: TestClient, body: bytes, status: int, says: str
) -> None:
    found, detail = post(client, body)
    assert found == status
    assert detail.startswith(says)


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("application/json", 200),
        ("Application/JSON; charset=utf-8", 200),
        ("application/vnd.api+json", 200),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data", 415),
        ("", 415),
    ],
)
def test_a_body_must_say_that_it_is_json(client: TestClient, kind: str, status: int) -> None:
    found, detail = post(client, ONE, **{"content-type": kind})
    assert found == status
    if status != 200:
        assert detail.startswith("send JSON, with Content-Type: application/json")


def test_a_byte_order_mark_is_no_mistake(client: TestClient) -> None:
    assert post(client, b"\xef\xbb\xbf" + ONE)[0] == 200


@pytest.mark.parametrize("path", ["/v1/model", "/docs", "/openapi.json"])
def test_head_is_get_without_its_body(client: TestClient, path: str) -> None:
    whole, head = client.get(path), client.head(path)
    assert (whole.status_code, head.status_code, head.content) == (200, 200, b"")
    assert head.headers == whole.headers


def test_what_a_path_takes_is_told(client: TestClient) -> None:
    for path, methods in (("/v1/model", "GET, HEAD, OPTIONS"), ("/v1/classify", "OPTIONS, POST")):
        options, wrong = client.options(path), client.delete(path)
        assert (options.status_code, options.headers["allow"]) == (204, methods)
        assert (wrong.status_code, wrong.headers["allow"]) == (405, methods)
        assert wrong.json() == {"detail": f"{path} takes {methods}, not DELETE"}
    assert client.head("/v1/classify").status_code == 405
    missing = client.post("/v1/embed", json={})
    assert missing.status_code == 404
    assert missing.json() == {"detail": "there is no /v1/embed; there are /v1/classify, /v1/model"}


def test_what_answers_is_told(client: TestClient) -> None:
    assert client.get("/v1/model").json() == {
        "model": "demo",
        "version": "0a",
        "task": "classify",
        "labels": list(LABELS),
    }


def test_the_page_of_the_api_needs_no_other_network(client: TestClient) -> None:
    page = client.get("/docs").text
    assert "//" not in page.replace("// `", "").replace("location.origin", "")
    for file in ("swagger-ui-bundle.js", "swagger-ui.css"):
        place = f"/static-offline-docs/{file}"
        assert place in page
        assert len(client.get(place).content) > 100_000


def test_the_schema_is_that_of_the_task(client: TestClient) -> None:
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    assert schemas["Request"]["properties"]["texts"]["maxItems"] == 8
    assert set(schemas["Prediction"]["properties"]) == {
        *("label", "probabilities", "tokens", "truncated")
    }


def test_several_labels_are_those_that_reach_the_threshold(
    replica: Callable[..., Any], tokenizer: Any, tmp_path: Path
) -> None:
    folder = save_classifier(tmp_path / "several", tokenizer, threshold=0.5)
    client = TestClient(replica(folder).__serve_build_asgi_app__())
    (found,) = client.post("/v1/classify", json={"texts": ["很好"]}).json()["predictions"]
    assert found["label"] == [one for one in LABELS if found["probabilities"][one] >= 0.5]
