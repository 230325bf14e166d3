"""Rows with named entities, and a task and a model of them with random weights."""

import itertools
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from cluster.store.artifacts import Artifact
from cluster.store.storage import Storage
from tests.fakes import published
from tests.troublesome import TEXTS
from trainers.corpora.cleaning.config import Clean
from trainers.corpora.tokens.pack import write_arrow
from trainers.tasks.ner.spec import Ner
from trainers.tasks.ner.tags import OUTSIDE, WordSpan

LABELS = ("person", "place")
ASTRONAUT, FLAG = "\U0001f469\u200d\U0001f680", "\U0001f1e9\U0001f1ea"


def row(text: str, *entities: tuple[str, str]) -> dict[str, Any]:
    """With entities by their first place in the text."""
    found = [
        {"start": text.index(one), "end": text.index(one) + len(one), "label": label}
        for one, label in entities
    ]
    return {"text": text, "entities": sorted(found, key=lambda one: (one["start"], one["end"]))}


ROWS = [
    row("鲁迅生于浙江绍兴。", ("鲁迅", "person"), ("浙江绍兴", "place"), ("绍兴", "place")),
    row("今天天气很好，我们去公园散步。"),
    row("Anna met Bob in New York.", ("Anna", "person"), ("Bob", "person"), ("New York", "place")),
    row("😀 Anna 去了👨‍👩‍👧‍👦北京\n很好", ("Anna", "person"), ("北京", "place")),
    row("", *()),
    row("今天" * 12 + "鲁迅在北京" + "很好" * 12, ("鲁迅", "person"), ("北京", "place")),
    row("很好" * 200 + "鲁迅", ("鲁迅", "person")),
]
"""Short ones, one of several windows, and one that is longer than what is read."""
SIZES = {"max_length": 16, "stride": 6, "max_windows": 8}

SCHEMES = {"IOB2": "BIIB", "BIOES": "BIES", "BILOU": "BILU", "BMES": "BMES"}
"""What stands for the first word of a span, one inside, the last, and an only one."""

WORDS = st.one_of(
    st.sampled_from([ASTRONAUT, FLAG, "北京", "，", "New York", " ", "\u200b", "e\u0301"]),
    st.sampled_from(["ＡＢ", "서울", "x", "\ufe0f", ""]),
    st.text(max_size=5),
    TEXTS,
)


def tags_of(spans: Iterable[WordSpan], words: int, scheme: str = "IOB2") -> list[str]:
    """A tag for each of so many words; the spans do not overlap."""
    first, inside, last, single = (*SCHEMES[scheme],)
    tags = [OUTSIDE] * words
    for start, end, label in spans:
        assert tags[start:end] == [OUTSIDE] * (end - start)
        prefixes = first + inside * (end - start - 2) + last if end - start > 1 else single
        tags[start:end] = [f"{prefix}-{label}" for prefix in prefixes]
    return tags


@st.composite
def labelled_words(draw: st.DrawFn, scheme: str = "IOB2") -> tuple[list[str], list[str]]:
    """Words with tags, of which those of a word without a character are O."""
    words = draw(st.lists(WORDS, max_size=12))
    there = [place for place, word in enumerate(words) if word]
    cuts = sorted(draw(st.sets(st.integers(0, len(there)))))
    labels = st.sampled_from([None, *LABELS])
    drawn = [(cut, draw(labels)) for cut in itertools.pairwise(cuts)]
    kept = [WordSpan(*cut, label) for cut, label in drawn if label is not None]
    tags = ["O"] * len(words)
    for place, tag in zip(there, tags_of(kept, len(there), scheme), strict=True):
        tags[place] = tag
    return words, tags


def examples_of(
    folder: Path,
    rows: Sequence[dict[str, Any]] = ROWS,
    test: Sequence[dict[str, Any]] | None = None,
) -> Artifact:
    """The same rows in every split, or others in `test`, as the stage `examples` leaves them."""
    files = {"labels.json": json.dumps(LABELS)}
    examples = published(Storage.at(str(folder)), "examples/demo-examples-00", files)
    schema = pa.schema(
        [("id", pa.string()), ("text", pa.large_string()), ("group", pa.string()),
         *Ner().value_types.items()]
    )  # fmt: skip
    for split in ("train", "validation", "test"):
        of_split = test if split == "test" and test is not None else rows
        numbered = [
            {"id": str(number), "group": None, **one} for number, one in enumerate(of_split)
        ]
        write_arrow(pa.Table.from_pylist(numbered, schema), examples.path / f"{split}.arrow")
    return examples


def ner_task(folder: Path, tokenizer: Any, rows: Sequence[Any] = ROWS, **keys: Any) -> Any:
    from trainers.models.build import Start
    from trainers.models.shape import Shape
    from trainers.tasks.ner.task import NerTask

    tokenizer.save_pretrained(folder / "tokenizer")
    return NerTask(
        settings=Ner(**{**SIZES, "dropout": 0.0, **keys}),
        examples=examples_of(folder, rows),
        start=Start(shape=Shape(hidden_size=32, layers=1, heads=2, max_positions=64)),
        tokenizer_folder=str(folder / "tokenizer"),
    )


def save_ner(folder: Path, task: Any, clean: Clean | None = None) -> Path:
    """Its model as fine-tuning leaves it, with random weights that find many entities."""
    import torch

    from trainers.models.card import CARD

    torch.manual_seed(1)
    model = task.model()
    torch.nn.init.normal_(model.classifier.weight)
    model.save_pretrained(folder)
    task.tokenizer().save_pretrained(folder)
    card = {
        "task": "ner",
        **task.settings.card(task.examples, {}),
        "clean": (clean or Clean()).model_dump(mode="json"),
    }
    (folder / CARD).write_text(json.dumps(card), "utf-8")
    return folder
