"""Corpora on the cluster: near duplicates and evaluation texts go, and an epoch has the tokens that
the weights give, whatever the number of tasks."""

import json
import random

import pytest

from tests.reviews import reviews
from trainers.corpora.cleaning.clean import normalize
from trainers.corpora.cleaning.config import Clean
from trainers.corpora.cleaning.documents import text_key
from trainers.corpora.config import Split
from trainers.corpora.labels.splits import Example, split

RECIPE = """\
name: copies
corpora:
  sources:
    reviews: {{path: "{data}/reviews-*.jsonl", weight: 3, validation: 0.4}}
    copies: {{path: "{data}/copies.jsonl"}}
    quotes: {{path: "{data}/quotes.jsonl"}}
    labelled: {{path: "{data}/labelled.jsonl", label_column: label, weight: 1}}
  tokens: 20_000
  deduplicate: {{similarity: 0.4}}
  decontaminate: {{files: ["{data}/clue.json"]}}
  split: {{validation: 0.2, test: 0.2}}
  validation: 0.05
  tokenizer: {{vocabulary_size: 1000}}
  sequence_length: 64
"""


def edited(text, drawn):
    """A tenth of the characters replaced."""
    characters = list(text)
    for place in drawn.sample(range(len(text)), len(text) // 10):
        characters[place] = drawn.choice("天地玄黄宇宙洪荒")
    return "".join(characters)


def label(text):
    return "ab"[len(text) % 2]


@pytest.fixture
def held_out_count(tmp_path):
    """Real reviews in two files, ten of which are in an evaluation set; edited copies of some of
    them, of those ten, and of held-out labelled ones."""
    drawn, shares = random.Random(17), Split(validation=0.2, test=0.2)
    texts = [normalize(line, Clean()) for line in dict.fromkeys(reviews()) if len(line) > 40][:900]
    labelled = [Example(text_key(text), text, label(text), "") for text in texts[600:]]
    splits = zip(labelled, split(labelled, shares, 17), strict=True)
    held_out = [example.text for example, name in splits if name != "train"]
    files = {
        "reviews-1": texts[:300],
        "reviews-2": texts[300:600],
        "copies": [edited(text, drawn) for text in texts[:100] + texts[200:210] + held_out],
        "quotes": [f"有人说：{text}你怎么看？" for text in texts[200:210] + held_out[:20]],
        "labelled": texts[600:],
    }
    for name, found in files.items():
        rows = [{"text": text, "label": label(text)} for text in found]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    clue = {"content": texts[200:210], "answer": 1}
    (tmp_path / "clue.json").write_text(json.dumps(clue), "utf-8")
    (tmp_path / "copies.yaml").write_text(RECIPE.format(data=tmp_path), "utf-8")
    return len(held_out)


def test_copies_and_quotes_are_dropped_at_any_number_of_tasks(raymill, held_out_count, tmp_path):
    made = []
    for tasks in (1, 2):
        workspace = tmp_path / f"workspace-{tasks}"
        options = ("--workspace", str(workspace), "--set", f"corpora.concurrency={tasks}")
        outcome = raymill("shard", str(tmp_path / "copies.yaml"), *options)
        assert outcome.status == 0, outcome.said
        (folder,) = workspace.glob("corpus/copies-shard-*")
        made.append(json.loads((folder / "manifest.json").read_text("utf-8")))
    assert made[0]["files"] == made[1]["files"]
    found = made[0]["metrics"]["sources"]
    dropped = found["copies"]["dropped"]
    assert 95 <= dropped["near duplicate"] <= 105
    like_held_out = dropped["evaluation text"] + dropped["passage of an evaluation text"]
    assert like_held_out >= 0.95 * (10 + held_out_count)
    assert found["quotes"]["dropped"]["passage of an evaluation text"] == 30
    assert found["reviews"]["dropped"]["evaluation text"] == 10
    assert found["reviews"]["kept"] >= 580
    for name, tokens in (("reviews", 15_000), ("labelled", 5_000)):  # as the weights say
        assert found[name]["train_tokens"] == pytest.approx(tokens, rel=0.12)
