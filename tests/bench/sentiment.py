"""MiniLM (22.7 M) fine-tuned by a recipe on English sentiment, beside logistic regressions on words
and on MiniLM's own features, all on the splits that the recipe made.

The texts are the 10,605 sentences of film reviews of Hutto & Gilbert (2014), each rated by twenty
people, which travel beside the source of `vaderSentiment` 0.5: pip fetches it. A label is the sign
of the mean rating, from half a point on. The regressions' one setting, C, is chosen on the
validation split.
"""

import functools
import io
import json
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.bench import commands, minilm

SOURCE = "vaderSentiment==0.5"
ARCHIVE = "vaderSentiment-0.5/additional_resources/hutto_ICWSM_2014.tar.gz"
SENTENCES = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"
LEAST_RATING = 0.5
"""Of -4 to 4: nearer to 0, people do not agree on the sign."""
SEEDS = 3
RECIPE = """\
name: english-sentiment
corpora:
  sources: {{films: {{path: "{folder}/films.jsonl"}}}}
finetune:
  base: "{base}"
  max_length: 64
  batch_size: 32
  micro_batch_size: 32
  learning_rate: 1e-4
  warmup: 0.1
  epochs: 3
  evaluations: 3
  workers: 1
  evaluation: {{seeds: {seeds}, ngram: false}}
"""


def rows(folder: Path) -> Iterator[dict[str, str]]:
    fetch = ["download", "-q", "--no-deps", "--no-build-isolation", SOURCE, "-d", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", *fetch], check=True)
    (path,) = folder.glob("vaderSentiment*")
    packed = io.BytesIO(zipfile.ZipFile(path).read(ARCHIVE))
    with tarfile.open(fileobj=packed) as archive:
        member = archive.extractfile(SENTENCES)
        assert member is not None
        lines = member.read().decode("utf-8", "replace").splitlines()
    for line in lines:
        _, rating, text = line.split("\t")
        if abs(float(rating)) >= LEAST_RATING:
            yield {"text": text, "label": "positive" if float(rating) > 0 else "negative"}


@functools.cache
def accuracies() -> dict[str, list[float]]:
    """On the test split: of each seed of the recipe, and of the regressions."""
    from cluster.store import artifacts
    from cluster.store.storage import Storage
    from trainers.corpora.examples.stage import read_split

    with tempfile.TemporaryDirectory(prefix="raymill-") as place:
        folder = Path(place)
        lines = (json.dumps(row) + "\n" for row in rows(folder))
        (folder / "films.jsonl").write_text("".join(lines), "utf-8")
        recipe = folder / "recipe.yaml"
        recipe.write_text(RECIPE.format(folder=place, base=minilm.base(), seeds=SEEDS), "utf-8")
        workspace = str(folder / "mill")
        run = commands.run(
            "-m", "cluster", "evaluate", str(recipe), "--workspace", workspace, "--json"
        )
        stages = {stage["stage"]: stage for stage in run.answer["stages"]}
        of_seeds = stages["evaluate"]["metrics"]["seeds"]["pretrained"]
        print(f"fine-tuned: {of_seeds}", file=sys.stderr)
        examples = artifacts.find(Storage.at(workspace), stages["examples"]["artifact"])
        assert examples is not None
        splits = {name: read_split(examples, name) for name in ("train", "validation", "test")}
    labels = {name: split["label"] for name, split in splits.items()}
    texts = {name: split["text"] for name, split in splits.items()}
    return {
        "fine-tuned": of_seeds["values"],
        "words": [regression(words(texts), labels)],
        "frozen": [regression(frozen(texts), labels)],
    }


def words(texts: dict[str, list[str]]) -> dict[str, Any]:
    """TF-IDF of words and pairs of words."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    vectorizer.fit(texts["train"])
    return {name: vectorizer.transform(some) for name, some in texts.items()}


def frozen(texts: dict[str, list[str]]) -> dict[str, Any]:
    """(texts, 384): MiniLM's last hidden states, averaged over tokens, as it was trained to."""
    import numpy as np
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(minilm.base())
    model = AutoModel.from_pretrained(minilm.base()).eval()

    @torch.inference_mode()
    def vectors(some: list[str]) -> Any:
        batch = tokenizer(some, padding=True, truncation=True, max_length=64, return_tensors="pt")
        mask = batch["attention_mask"][..., None]
        return ((model(**batch).last_hidden_state * mask).sum(1) / mask.sum(1)).numpy()

    def in_batches(some: list[str]) -> Any:
        return np.concatenate([vectors(some[at : at + 32]) for at in range(0, len(some), 32)])

    return {name: in_batches(some) for name, some in texts.items()}


def regression(features: dict[str, Any], labels: dict[str, list[str]]) -> float:
    from sklearn.linear_model import LogisticRegression

    fitted = [
        LogisticRegression(C=strength, max_iter=2000).fit(features["train"], labels["train"])
        for strength in (0.1, 1.0, 10.0, 100.0)
    ]
    best = max(fitted, key=lambda one: one.score(features["validation"], labels["validation"]))
    return float(best.score(features["test"], labels["test"]))
