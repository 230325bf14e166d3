"""A model that writes is evaluated on files of rows in every form that it can be trained on."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from trainers.corpora.cleaning.config import Clean
from trainers.corpora.reading.config import Source
from trainers.corpora.reading.sources import content_hash
from trainers.scoring.evaluation import labelled
from trainers.tasks.chat.spec import Chat
from trainers.tasks.generate.spec import Generate
from trainers.tasks.prefer.spec import Prefer

ASKED, ANSWER, OTHER = "Which one?", "This one.", "That one."
USER = {"role": "user", "content": ASKED}
BEST, WORSE = ({"role": "assistant", "content": text} for text in (ANSWER, OTHER))
CHAT: dict[str, Mapping[str, Any]] = {
    "messages": {"messages": [USER, BEST]},
    "ShareGPT": {
        "conversations": [{"from": "human", "value": ASKED}, {"from": "gpt", "value": ANSWER}]
    },
    "texts in turn": {"dialogue": [ASKED, ANSWER]},
    "prompt and completion": {"prompt": ASKED, "completion": ANSWER},
    "messages of both": {"prompt": [USER], "completion": [BEST]},
    "Alpaca": {"instruction": "Which", "input": "one?", "output": ANSWER},
}
WRITTEN: dict[str, Mapping[str, Any]] = {
    "prompt and completion": {"prompt": ASKED, "completion": ANSWER},
    "an article": {"article": ASKED, "highlights": ANSWER},
}
PAIRS: dict[str, Mapping[str, Any]] = {
    "texts": {"prompt": ASKED, "chosen": ANSWER, "rejected": OTHER},
    "conversations": {"chosen": [USER, BEST], "rejected": [USER, WORSE]},
    "transcripts": {
        "chosen": f"Human: {ASKED}\n\nAssistant: {ANSWER}",
        "rejected": f"Human: {ASKED}\n\nAssistant: {OTHER}",
    },
}


def read(settings: Any, row: Mapping[str, Any], folder: Path) -> tuple[list[Any], Any]:
    path = folder / "rows.jsonl"
    path.write_text(f"{json.dumps(row)}\n" * 2, "utf-8")
    content_hash.cache_clear()
    return labelled.rows(Source(path=str(path)), settings, Clean())


@pytest.mark.parametrize("form", CHAT)
def test_conversations(form: str, tmp_path: Path) -> None:
    (row,), counts = read(Chat(), CHAT[form], tmp_path)
    assert [one["role"] for one in row["messages"]] == ["user", "assistant"]
    assert " ".join(row["messages"][0]["content"].split()) == ASKED
    assert row["messages"][-1]["content"] == ANSWER
    assert counts.dropped == {"exact duplicate": 1}


def test_conversations_that_differ_in_their_system_alone_are_one(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [{**CHAT["messages"], "system": system} for system in ("Be brief.", "Be kind.")]
    path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    (row,), counts = labelled.rows(Source(path=str(path)), Chat(), Clean())
    assert row["messages"][0]["content"] == "Be brief."
    assert counts.dropped == {"exact duplicate": 1}


@pytest.mark.parametrize("form", WRITTEN)
def test_texts(form: str, tmp_path: Path) -> None:
    (row,), _ = read(Generate(), WRITTEN[form], tmp_path)
    assert (row["prompt"], row["completion"]) == (ASKED, ANSWER)


@pytest.mark.parametrize("form", PAIRS)
def test_pairs(form: str, tmp_path: Path) -> None:
    (row,), _ = read(Prefer(), PAIRS[form], tmp_path)
    assert [row[side][-1]["content"] for side in ("chosen", "rejected")] == [ANSWER, OTHER]
    assert row["chosen"][:-1] == row["rejected"][:-1]
