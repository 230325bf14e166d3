"""LoRA on classification by the user's command: trained by two workers under ZeRO-3, and
evaluated."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.command import Outcome
from trainers.corpora.config import Tokenizer
from trainers.corpora.tokens.tokenizer import train

WORDS = {
    "good": ["很好", "满意", "喜欢", "漂亮", "实惠"],
    "bad": ["很差", "失望", "退货", "难看", "太贵"],
}
TEXTS = ["这件衣服{word}，第{number}次买", "{number}号客服说{word}", "{word}！{number}天就到了"]
RECIPE = """\
name: tuned
corpora:
  sources: {{rows: {{path: "{folder}/rows.jsonl"}}}}
  split: {{validation: 0.15, test: 0.15}}
  decontaminate: null
finetune:
  base: {folder}/base
  method: lora
  max_length: 24
  batch_size: 16
  learning_rate: 5e-3
  epochs: 6
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
        for number in range(8)
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


def test_an_adapter_is_trained_and_evaluated(
    raymill_at_head: Callable[..., Outcome], folder: Path
) -> None:
    (folder / "tuned.yaml").write_text(RECIPE.format(folder=folder), "utf-8")
    place = ("--workspace", str(folder / "mill"), "--until", "evaluate")
    outcome = raymill_at_head("run", str(folder / "tuned.yaml"), *place)
    assert outcome.status == 0, outcome.stderr
    stages = {stage["stage"]: stage for stage in outcome.answer["stages"]}
    metrics = stages["finetune"]["metrics"]
    assert metrics["workers"] == 2
    assert metrics["trained_parameters"] < metrics["parameters"]
    assert stages["evaluate"]["metrics"]["test"]["accuracy"] > 0.8
    model = folder / "mill" / stages["finetune"]["artifact"]
    record = json.loads((model / "adapter.json").read_text("utf-8"))
    assert record["base"] == str(folder / "base")
    assert {*record["base_files"]} == {"config.json", "model.safetensors"}
    assert not (model / "model.safetensors").exists()
    (log,) = (folder / "mill").glob("runs/*/log.txt")
    assert "FutureWarning" not in log.read_text("utf-8"), "one in every step"
