"""Against nervaluate's strict figures, and an example worked by hand."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nervaluate import Evaluator

from tests.unit.trainers.tasks.ner.spans import LABELS, entities
from trainers.scoring.evaluation.bootstrap import resampled, weights
from trainers.tasks.ner.figures import figures, tally


@given(st.lists(st.tuples(entities(), entities()), min_size=1, max_size=8))
def test_figures_are_those_of_nervaluate(pairs: list[Any]) -> None:
    found = figures([{"gold": gold, "prediction": given} for gold, given in pairs])
    # Its ends are inclusive, and nothing at all is no division by 0 to it.
    gold, given = (
        [[{**one, "end": one["end"] - 1} for one in row] for row in rows]
        for rows in zip(*pairs, strict=True)
    )
    expected = Evaluator(gold, given, tags=LABELS, loader="dict").evaluate()
    strict = expected["overall"]["strict"]
    for name in ("precision", "recall", "f1"):
        assert found[f"span_{name}"] == pytest.approx(getattr(strict, name))
    for label, of_label in found["per_label"].items():
        judged = expected["entities"][label]["strict"]
        assert of_label["f1"] == pytest.approx(judged.f1)
        assert of_label["recall"] == pytest.approx(judged.recall)


@given(st.lists(st.tuples(entities(), entities()), min_size=1, max_size=8))
def test_metrics_of_a_resample_are_the_figures_of_its_records(pairs: list[Any]) -> None:
    records = [{"gold": gold, "prediction": given} for gold, given in pairs]
    (found,) = resampled([tally(records)], resamples=4)
    (drawn,) = weights(len(records), 4)
    for number, times in enumerate(drawn):
        of_resample = figures(
            [r for r, n in zip(records, times, strict=True) for _ in range(int(n))]
        )
        for name, values in found.items():
            assert values[number] == pytest.approx(of_resample[name]), name
    assert tally(records).correct.tolist() == [
        sorted(map(str, gold)) == sorted(map(str, given)) for gold, given in pairs
    ]


def test_an_example_by_hand() -> None:
    person, place = ({"label": label} for label in ("person", "place"))
    gold = [{"start": 0, "end": 2, **person}, {"start": 0, "end": 5, **place}]
    given = [
        {"start": 0, "end": 2, **person, "score": 0.9},
        {"start": 0, "end": 4, **place, "score": 0.6},
        {"start": 6, "end": 7, **person, "score": 0.6},
    ]
    found = figures([{"gold": gold, "prediction": given}, {"gold": [], "prediction": []}])
    assert (found["span_precision"], found["span_recall"], found["span_f1"]) == (1 / 3, 1 / 2, 0.4)
    assert found["macro_f1"] == pytest.approx((2 / 3 + 0) / 2)
    assert found["per_label"]["person"] == {
        "precision": 0.5, "recall": 1.0, "f1": pytest.approx(2 / 3), "entities": 1, "predicted": 2
    }  # fmt: skip
    assert (found["entities"], found["documents"]) == (2, 2)


def test_without_entities_all_is_0() -> None:
    found = figures([{"gold": [], "prediction": []}])
    assert found["span_f1"] == found["macro_f1"] == 0


def test_answers_are_entities_if_all_have_a_score() -> None:
    """A text without any says nothing of how probable that is."""
    place = {"start": 0, "end": 2, "label": "place"}
    found = [{**place, "score": 0.9}, {**place, "start": 1, "score": 0.4}]
    records = [{"gold": [place], "prediction": found}, {"gold": [place], "prediction": []}]
    answers = tally(records).answers
    assert answers is not None
    assert (answers.confidence.tolist(), answers.correct.tolist()) == ([0.9, 0.4], [True, False])
    assert tally([*records, {"gold": [], "prediction": [place]}]).answers is None  # a gazetteer's
    assert tally(records[1:]).answers is None
