"""The endpoint answers what the plain model says, and ends with Ctrl-C."""

import gzip
import json
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from tests.integration.command import ROOT, free_port

DEFAULT_PORTS = {8000, 8404, 8500, 9101}
"""Of Serve and HAProxy: another Ray on the machine may have them."""
TEXTS = ["很好，非常满意！", "太差了，退货。", "送货很快，书的质量不错，孩子喜欢。" * 8]
JSON = {"Content-Type": "application/json"}


def post(url, document):
    request = urllib.request.Request(url, json.dumps(document, ensure_ascii=False).encode(), JSON)
    with urllib.request.urlopen(request, timeout=300) as response:
        return json.load(response)


@pytest.fixture(scope="module")
def model(first_run, workspace):
    """The folder of the fine-tuned model."""
    (stage,) = (s for s in first_run.answer["stages"] if s["stage"] == "finetune")
    return workspace / stage["artifact"]


@pytest.fixture(scope="module")
def endpoint(model, start, workspace):
    """The address of an endpoint, and the command that holds it. Its temporary files are in a
    folder whose name is longer than /tmp."""
    port, name = free_port(), str(model.relative_to(workspace))
    given = ("serve", name, "--workspace", str(workspace), "--set", f"serve.port={port}")
    address = f"http://127.0.0.1:{port}"

    def answers():
        try:
            return request(f"{address}/v1/model")[0] == 200
        except (urllib.error.URLError, ConnectionError):
            return False

    of_tests = {"prefix": "raymill-tests-", "dir": "/tmp", "ignore_cleanup_errors": True}
    with tempfile.TemporaryDirectory(**of_tests) as folder:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TMPDIR", folder)
            command = start(*given)
        command.until(answers)
        yield address, command
        command.end()


@pytest.fixture(scope="module")
def address(endpoint):
    return endpoint[0]


def test_answers_are_the_plain_models(model, endpoint):
    address, command = endpoint
    assert any("bin/haproxy" in line for line in command.command_lines())
    assert not command.ports() & DEFAULT_PORTS
    answer = post(f"{address}/v1/classify", {"texts": TEXTS})
    assert model.name.endswith(answer["version"])
    plain = AutoModelForSequenceClassification.from_pretrained(model)
    tokenizer = AutoTokenizer.from_pretrained(model)
    for text, prediction in zip(TEXTS, answer["predictions"], strict=True):
        inputs = tokenizer(text, return_tensors="pt", truncation=True, max_length=32)
        inputs.pop("token_type_ids", None)
        with torch.no_grad():
            expected = torch.softmax(plain(**inputs).logits[0], -1)
        labels = [plain.config.id2label[number] for number in range(len(expected))]
        for label, value in zip(labels, expected.tolist(), strict=True):
            assert prediction["probabilities"][label] == pytest.approx(value, abs=1e-5)


def request(url, body=None, method=None, headers=JSON):
    """Status, headers and body of the answer."""
    asked = urllib.request.Request(url, body, headers, method=method)
    try:
        with urllib.request.urlopen(asked, timeout=300) as response:
            return response.status, response.headers, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def test_what_an_endpoint_refuses_it_refuses_in_words(address):
    url = f"{address}/v1/classify"
    one = b'{"texts": ["a"]}'
    for body, headers, status, says in (
        (b'{"texts": []}', {}, 422, "texts: "),
        (json.dumps({"texts": ["a"] * 257}).encode(), {}, 413, "257 texts in one request"),
        (b'{"txts": [], "texts": ["a"]}', {}, 422, "txts: unknown key; known: texts, truncate"),
        (one.replace(b"a", b"a" * 9_000_000), {}, 413, "over serve.max_request_megabytes = 8"),
        (one.replace(b"a", "很好".encode("gbk")), {}, 422, "not UTF-8"),
        (b"[" * 100_000, {}, 422, "nested too deep"),
        (one, {"Content-Type": "text/plain"}, 415, "Content-Type: application/json"),
        (gzip.compress(one), {"Content-Encoding": "gzip"}, 415, "send a plain body"),
        (b'{"texts": ["' + b"a b " * 99 + b'"], "truncate": false}', {}, 413, "texts.0 has "),
    ):
        found, _, answer = request(url, body, headers={**JSON, **headers})
        assert found == status, answer
        assert says in json.loads(answer)["detail"]
    found, headers, _ = request(url, method="OPTIONS", headers={})
    assert (found, headers["Allow"]) == (204, "OPTIONS, POST")
    assert request(f"{address}/v1/model", method="HEAD")[0] == 200
    assert b"swagger-ui" in request(f"{address}/docs")[2]


def test_texts_that_look_alike_get_the_same_answer(address):
    texts = ["今天 天气很好ABC", "今\u200b天  天气\u00ad很好ＡＢＣ", "\ufeff今天\u3000天气很好ABC "]
    first, *others = post(f"{address}/v1/classify", {"texts": texts})["predictions"]
    for other in others:
        assert other["probabilities"] == pytest.approx(first["probabilities"], abs=1e-6)
        assert other["tokens"] == first["tokens"]


def test_a_text_of_megabytes_is_answered_as_its_beginning(address):
    text = "很好非常满意吗" * 357_000
    url = f"{address}/v1/classify"
    (whole,) = post(url, {"texts": [text]})["predictions"]
    (beginning,) = post(url, {"texts": [text[:1000]]})["predictions"]
    assert whole["probabilities"] == pytest.approx(beginning["probabilities"], abs=1e-6)
    assert (whole["truncated"], whole["tokens"]) == (True, beginning["tokens"])


def test_ctrl_c_ends_it(endpoint, workspace):
    """The last test of this endpoint, which answers before the command's own first request."""
    _, command = endpoint
    command.until(lambda: list(workspace.glob("deployment/*/manifest.json"))[1:])
    time.sleep(3)
    command.interrupt()
    outcome = command.wait()
    assert outcome.status == 0, outcome.stderr
    assert command.strays() == []


SERVES = """
import sys
from ray import serve
from cluster.errors import UserError
from cluster.ray.session import connected
from serving.config import Serve
from serving.rollout.deploy import refuse_what_is_there

@serve.deployment
class Other:
    pass

def ask(name, port):
    try:
        refuse_what_is_there(name, Serve(port=port))
    except UserError as error:
        print(error)
    else:
        print("nothing")

port = int(sys.argv[1])
with connected(None, 1):
    ask("tiny", port)
    serve.start(http_options={"port": port})
    ask("tiny", port)
    serve.run(Other.bind(), name="other", route_prefix="/")
    ask("tiny", port + 1)
    ask("tiny", port)
    ask("other", port)
"""


def test_a_cluster_that_serves_something_else_is_refused():
    port = free_port()
    command = [sys.executable, "-c", SERVES, str(port)]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-5:] == [
        "nothing",
        "nothing",
        f"serve.port: this cluster serves on {port} already, not on {port + 1}; set that",
        "serve: this cluster serves 'other' already; delete it (`serve.delete('other')`, of Ray "
        "Serve), or name another cluster",
        "nothing",
    ]
