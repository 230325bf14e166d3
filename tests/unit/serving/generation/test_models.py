"""A base and its adapters answer by name, each as it does alone."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from cluster.errors import UserError
from cluster.store.artifacts import Artifact
from cluster.store.storage import Storage
from serving.generation.models import Models
from tests.adapters import bases, learned
from tests.chats import TEMPLATE
from tests.fakes import published
from tests.writers import CARD
from trainers.corpora.cleaning.config import Clean
from trainers.methods.record import RECORD
from trainers.methods.saving import write
from trainers.models.card import CARD as CARD_FILE

CPU = torch.device("cpu")
ASKED: Any = [{"role": "user", "content": "Anna?"}]
NAMES = ("first", "second", "third")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bases")
    bases(folder)
    (folder / "causal" / "chat_template.jinja").write_text(TEMPLATE, "utf-8")
    return folder / "causal"


@pytest.fixture(scope="module")
def adapters(base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    """Three models of recipes of these names, of one base; all are promoted."""
    storage = Storage.at(str(tmp_path_factory.mktemp("mill")))
    return {name: adapter(storage, base, name, number) for number, name in enumerate(NAMES, 1)}


def adapter(storage: Storage, base: Path, name: str, by: float, method: Any = "lora") -> Artifact:
    from cluster.store.artifacts import drafting
    from trainers.corpora.tokens import tokenizer as tokenizers

    made = learned(base, "causal", method, by=by)
    weights = {key: one.detach() for key, one in made.trained.items()}
    card = {"task": "chat", **CARD, "clean": Clean().model_dump(mode="json")}
    with drafting(storage, f"model/{name}-finetune-0{by:g}") as draft:
        with draft.folder() as folder:
            write(made, made.base, weights, folder)
            tokenizers.load(base).save_pretrained(folder)
            (folder / CARD_FILE).write_text(json.dumps(card), "utf-8")
        inputs = {"finetune": {"task": "chat"}}
        model = draft.publish(recipe=name, stage="finetune", parents={}, inputs=inputs, metrics={})
    published(storage, f"promotion/{name}-promote-00", parents={"finetune": model.id})
    return model


def expected(model: Artifact | None, base: Path, prompt: Any, most: int) -> list[int]:
    """Greedy, by PEFT alone."""
    made: Any = AutoModelForCausalLM.from_pretrained(base)
    if model is not None:
        made = PeftModel.from_pretrained(made, str(model.path))
    ids: list[int] = []
    with torch.no_grad():
        for _ in range(most):
            logits = made.eval()(input_ids=torch.tensor([[*prompt, *ids]])).logits
            ids.append(int(logits[0, -1].argmax()))
    return ids


def test_names_are_those_of_promoted_adapters_of_the_base(
    adapters: dict[str, Artifact], base: Path, tmp_path: Path
) -> None:
    models = Models(adapters["first"], CPU, most_adapters=2)
    assert {*models.known()} == {*NAMES}
    assert models.base is not None
    assert models.base.name == "causal"
    other = tmp_path / "bases"
    bases(other)
    torch.manual_seed(9)
    changed = AutoModelForCausalLM.from_pretrained(base)
    with torch.no_grad():
        changed.lm_head.weight.add_(1)
    changed.save_pretrained(other / "causal")
    adapter(adapters["first"].storage, other / "causal", "stranger", 9)
    models._known = None
    assert {*models.known()} == {*NAMES}, "an adapter of another base"


def test_answers_mixed_in_a_batch_are_those_of_each_adapter_alone(
    adapters: dict[str, Artifact], base: Path, served_model: Callable[..., openai.OpenAI]
) -> None:
    """Of three adapters with room for two, and the base."""
    client = served_model(adapters["first"], max_adapters=2)
    served = client.replica._models.named("first")  # type: ignore[attr-defined]
    tokenizer = served.predictor.tokenizer
    prompt = tokenizer.apply_chat_template(ASKED, add_generation_prompt=True)["input_ids"]
    wanted = {name: expected(adapters.get(name), base, prompt, 6) for name in (*NAMES, "causal")}
    assert len({*map(tuple, wanted.values())}) == 4

    def asked(name: str) -> list[str]:
        answer = client.chat.completions.create(
            model=name,
            messages=ASKED,
            max_tokens=6,
            temperature=0,
            logprobs=True,
        )
        logprobs = answer.choices[0].logprobs
        assert logprobs is not None
        return [one.token for one in logprobs.content or ()]

    names = [*wanted] * 6
    with ThreadPoolExecutor(8) as pool:
        found = [*pool.map(asked, names)]
    for name, tokens in zip(names, found, strict=True):
        assert tokens == [tokenizer.decode([one]) for one in wanted[name]][: len(tokens)], name
    listed = {model.id: model for model in client.models.list()}
    assert listed["second"].parent == "causal"  # type: ignore[attr-defined]


def test_the_adapter_that_was_not_used_for_longest_goes(adapters: dict[str, Artifact]) -> None:
    models = Models(adapters["first"], CPU, most_adapters=2)
    first, second, third = (models.named(name).adapter for name in NAMES)  # type: ignore[union-attr]
    assert all((first, second, third))
    assert models.ready(second, ())
    assert models.ready(first, ())
    assert models.ready(third, ()), "second goes"
    assert {*models.model.peft_config} == {first, third}
    assert not models.ready(second, {first, third}), "it waits"
    assert models.ready(second, {third})
    assert {*models.model.peft_config} == {second, third}


def test_a_damaged_adapter_is_told_and_the_others_answer(
    base: Path, tmp_path: Path, served_model: Callable[..., openai.OpenAI]
) -> None:
    storage = Storage.at(str(tmp_path))
    good, bad = adapter(storage, base, "good", 1), adapter(storage, base, "bad", 2)
    weights = bad.path / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    client = served_model(good)
    asked: Any = {"messages": ASKED, "max_tokens": 2}
    with pytest.raises(openai.InternalServerError, match="bad") as refused:
        client.chat.completions.create(model="bad", **asked)
    assert refused.value.code == "model_damaged"
    assert client.chat.completions.create(model="good", **asked).choices
    with pytest.raises(UserError):
        Models(bad, CPU, most_adapters=1)


def test_an_adapter_that_cannot_be_mixed_answers_alone(
    base: Path, tmp_path: Path, served_model: Callable[..., openai.OpenAI]
) -> None:
    storage = Storage.at(str(tmp_path))
    model = adapter(storage, base, "houlsby", 1, {"name": "adapter"})
    adapter(storage, base, "other", 1)
    client = served_model(model)
    assert [one.id for one in client.models.list()] == ["houlsby"]
    answer = client.chat.completions.create(model="houlsby", messages=ASKED, max_tokens=2)
    assert answer.choices[0].finish_reason
    assert RECORD in model.manifest.files
