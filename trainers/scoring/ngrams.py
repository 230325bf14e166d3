"""What an evaluation has beside the model, as a sanity line. Imports no torch: a process of its own
counts it.
"""

from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from cluster.store.artifacts import Artifact
from trainers.corpora.examples.stage import read_split
from trainers.scoring import metrics


def ngram(examples: Artifact) -> Any:
    """Logistic regression on TF-IDF of character 1- to 3-grams, trained on the training split.

    Its one setting, C, is chosen on the validation split.
    """
    train_texts, train_labels = read_split(examples, "train")
    validation_texts, validation_labels = read_split(examples, "validation")
    test_texts, test_labels = read_split(examples, "test")
    vectorizer = TfidfVectorizer(
        analyzer="char", ngram_range=(1, 3), min_df=2, sublinear_tf=True, dtype=np.float32
    )
    train = vectorizer.fit_transform(train_texts)
    validation = vectorizer.transform(validation_texts)
    candidates = [
        LogisticRegression(C=strength, max_iter=200).fit(train, train_labels)
        for strength in (1.0, 4.0)
    ]
    best = max(candidates, key=lambda model: model.score(validation, validation_labels))
    # A label may be in the test split alone, where the regression never sees it.
    labels = sorted({*best.classes_, *test_labels})
    predicted = np.zeros((len(test_texts), len(labels)))
    known = [labels.index(label) for label in best.classes_]
    predicted[:, known] = best.predict_proba(vectorizer.transform(test_texts))
    return metrics.classification(predicted, np.searchsorted(labels, test_labels))
