"""What stands beside a classifier, as a sanity line. Imports no torch: a process of its own counts
it."""

from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.preprocessing import MultiLabelBinarizer

from cluster.store.artifacts import Artifact
from trainers.corpora.examples.stage import read_split
from trainers.tasks.classify.spec import Classify

MOST_ROWS = 200_000
"""Of each split: its vectors take some KB a row, and more rows tell it little."""


def ngram(settings: Classify, examples: Artifact) -> list[dict[str, Any]]:
    """Records of a logistic regression on TF-IDF of character 1- to 3-grams, trained on the
    training split.

    Its one setting, C, is chosen on the validation split. Of a large split it sees MOST_ROWS.
    """
    train, validation, test = (
        read_split(examples, name, MOST_ROWS) for name in ("train", "validation", "test")
    )
    vectorizer = TfidfVectorizer(
        analyzer="char", ngram_range=(1, 3), min_df=2, sublinear_tf=True, dtype=np.float32
    )
    vectors = vectorizer.fit_transform(train["text"])
    validation_vectors = vectorizer.transform(validation["text"])
    binarizer = MultiLabelBinarizer().fit([*train["label"], *validation["label"]])

    def encoded(labels: list[Any]) -> Any:
        return binarizer.transform(labels) if settings.multi_label else labels

    candidates = [
        _fitted(settings, strength, vectors, encoded(train["label"])) for strength in (1.0, 4.0)
    ]
    best = max(
        candidates, key=lambda model: model.score(validation_vectors, encoded(validation["label"]))
    )
    probabilities = best.predict_proba(vectorizer.transform(test["text"]))
    if settings.multi_label:
        given = binarizer.inverse_transform(probabilities >= 0.5)
        predictions: list[Any] = [list(labels) for labels in given]
        scores = np.maximum(probabilities, 1 - probabilities).min(axis=1)
    else:
        predictions = best.classes_[probabilities.argmax(axis=1)].tolist()
        scores = probabilities.max(axis=1)
    rows = zip(test["id"], test["label"], predictions, scores, strict=True)
    return [
        {"id": id_, "gold": gold, "prediction": prediction, "score": float(score)}
        for id_, gold, prediction, score in rows
    ]


def _fitted(settings: Classify, strength: float, vectors: Any, labels: Any) -> Any:
    model = LogisticRegression(C=strength, max_iter=200)
    return (OneVsRestClassifier(model) if settings.multi_label else model).fit(vectors, labels)
