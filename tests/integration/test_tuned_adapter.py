"""LoRA on classification by the user's commands: trained by two workers under ZeRO-3, evaluated,
scored, and trained further from."""

import json
from pathlib import Path

import pytest

from trainers.corpora.config import Tokenizer
from trainers.corpora.tokens.tokenizer import train

WORDS = {
    "good": ["很好", "满意", "喜欢", "漂亮", "实惠"],
    "bad": ["很差", "失望", "退货", "难看", "太贵"],
}
TEXTS = ["这件衣服{word}，第{number}次买", "{number}号客服说{word}", "{word}！{number}天就到了"]
RECIPE = """\
name: {name}
corpora:
  sources: {{rows: {{path: "{folder}/rows.jsonl"}}}}
  split: {{validation: 0.15, test: 0.15}}
  decontaminate: null
finetune:
  base: {base}
  method: {method}
  max_length: 24
  batch_size: 16
  learning_rate: {rate}
  epochs: {epochs}
  workers: 2
  zero: {{stage: 3}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows, and a small encoder with random weights and no head."""
    from transformers import BertConfig, BertForMaskedLM

    folder = tmp_path_factory.mktemp("adapters")
    rows = [
        {"text": text.format(word=word, number=number), "label": label}
        for label, words in WORDS.items()
        for word in words
        for text in TEXTS
        for number in range(20)
    ]
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    (folder / "rows.jsonl").write_text("\n".join(lines), "utf-8")
    settings = Tokenizer(algorithm="wordpiece", vocabulary_size=400)
    tokenizer = train([row["text"] for row in rows], settings, 24)
    config = BertConfig(
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=32,
    )
    BertForMaskedLM(config).save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    return folder


def write(folder: Path, name: str, base: str, method: str, rate: str, epochs: int) -> str:
    text = RECIPE.format(
        name=name, folder=folder, base=base, method=method, rate=rate, epochs=epochs
    )
    (folder / f"{name}.yaml").write_text(text, "utf-8")
    return str(folder / f"{name}.yaml")


def test_an_adapter_is_trained_evaluated_scored_and_trained_further(raymill, folder):
    place = ("--workspace", str(folder / "mill"))
    first = write(folder, "tuned", f"{folder}/base", "lora", "2e-3", 8)
    outcome = raymill("run", first, *place, "--until", "evaluate")
    assert outcome.status == 0, outcome.stderr
    stages = {stage["stage"]: stage for stage in outcome.answer["stages"]}
    metrics = stages["finetune"]["metrics"]
    assert metrics["trained_parameters"] < metrics["parameters"]
    assert stages["evaluate"]["metrics"]["test"]["accuracy"] > 0.95

    model = folder / "mill" / stages["finetune"]["artifact"]
    record = json.loads((model / "adapter.json").read_text("utf-8"))
    assert record["base"] == str(folder / "base")
    assert {*record["base_files"]} == {"config.json", "model.safetensors"}
    assert not (model / "model.safetensors").exists()

    texts = [{"text": "这件衣服很好"}, {"text": "客服说退货"}]
    (folder / "in.jsonl").write_text("".join(json.dumps(text) + "\n" for text in texts))
    given = ("score", "tuned", str(folder / "in.jsonl"), str(folder / "out"), "--format", "jsonl")
    scored = raymill(*given, *place)
    assert scored.status == 0, scored.stderr
    lines = (folder / "out" / "part-000000.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["prediction_label"] for line in lines] == ["good", "bad"]

    second = write(folder, "further", "tuned", "{name: lora, rank: 4, merge: true}", "1e-4", 1)
    outcome = raymill("run", second, *place, "--until", "evaluate")
    assert outcome.status == 0, outcome.stderr
    stages = {stage["stage"]: stage for stage in outcome.answer["stages"]}
    assert stages["evaluate"]["metrics"]["test"]["accuracy"] > 0.95
    whole = folder / "mill" / stages["finetune"]["artifact"]
    assert (whole / "model.safetensors").exists()
    assert not (whole / "adapter.json").exists()
