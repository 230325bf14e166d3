"""The endpoint answers what the plain model says, and ends with Ctrl-C."""

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from tests.integration.command import ROOT, free_port

DEFAULT_PORTS = {8000, 8404, 8500, 9101}
"""Of Serve and HAProxy: another Ray on the machine may have them."""
TEXTS = ["很好，非常满意！", "太差了，退货。", "送货很快，书的质量不错，孩子喜欢。" * 8]


def post(url, document):
    request = urllib.request.Request(
        url, json.dumps(document).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=300) as response:
        return json.load(response)


@pytest.fixture
def endpoint(first_run, start, workspace):
    port = free_port()
    model = next(s for s in first_run.answer["stages"] if s["stage"] == "finetune")["artifact"]
    command = start("serve", model, "--workspace", str(workspace), "--set", f"serve.port={port}")
    url = f"http://127.0.0.1:{port}/v1/classify"

    def answers():
        try:
            return post(url, {"texts": TEXTS[:1]})
        except (urllib.error.URLError, ConnectionError):
            return None

    command.until(answers)
    yield url, command
    command.end()


def test_answers_are_the_plain_models(first_run, endpoint, workspace):
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    url, command = endpoint
    assert any("bin/haproxy" in line for line in command.command_lines())
    assert not command.ports() & DEFAULT_PORTS
    answer = post(url, {"texts": TEXTS})
    finetuned = next(s for s in first_run.answer["stages"] if s["stage"] == "finetune")
    folder = workspace / finetuned["artifact"]
    assert finetuned["artifact"].endswith(answer["version"])
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for text, prediction in zip(TEXTS, answer["predictions"], strict=True):
        inputs = tokenizer(text, return_tensors="pt", truncation=True, max_length=32)
        inputs.pop("token_type_ids", None)
        with torch.no_grad():
            expected = torch.softmax(model(**inputs).logits[0], -1)
        labels = [model.config.id2label[number] for number in range(len(expected))]
        for label, value in zip(labels, expected.tolist(), strict=True):
            assert prediction["probabilities"][label] == pytest.approx(value, abs=1e-5)

    for document, status, says in (
        ({"texts": []}, 422, "texts: "),
        ({"texts": ["a"] * 257}, 413, "257 texts in one request"),
        ({"txts": ["a"], "texts": ["a"]}, 422, "txts: unknown key; known: texts"),
        ({"texts": ["a" * 9_000_000]}, 413, "over serve.max_request_megabytes = 8"),
    ):
        with pytest.raises(urllib.error.HTTPError) as refused:
            post(url, document)
        assert refused.value.code == status
        assert says in json.load(refused.value)["detail"]

    # The endpoint answers before the command has made its own first request and holds.
    command.until(lambda: list(workspace.glob("deployment/*/manifest.json"))[1:])
    time.sleep(3)
    command.interrupt()
    outcome = command.wait()
    assert outcome.status == 0, outcome.said
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
        "serve: this cluster serves 'other' already; withdraw that, or name another cluster",
        "nothing",
    ]
