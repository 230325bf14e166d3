from pathlib import Path

import pytest

from tests.entities import examples_of, row
from trainers.tasks.ner.figures import figures
from trainers.tasks.ner.gazetteer import gazetteer, matches, trie
from trainers.tasks.ner.spec import Ner


def test_the_longest_string_is_found_and_no_word_is_cut() -> None:
    known = trie(dict.fromkeys(["北京", "北京大学", "京", "US", "New York"]))

    def found(text: str) -> list[str]:
        return [text[start:end] for start, end in matches(known, text)]

    assert found("在北京大学和北京大") == ["北京大学", "北京"]
    assert found("BUS USA US, in the US") == ["US", "US"]
    assert found("a New Yorker in New York") == ["New York"]
    assert found("在US的New York人") == ["US", "New York"]
    assert found("") == []


def test_what_is_rarely_an_entity_is_left_out_and_labels_are_the_most_frequent(
    tmp_path: Path,
) -> None:
    train = [
        row("鲁迅在北京", ("鲁迅", "person"), ("北京", "place")),
        row("高先生", ("高", "person")),
        row("很高，太高，真高"),
        row("北京又来了", ("北京", "place")),
        row("他说北京", ("北京", "person")),
    ]
    test = [
        row("鲁迅高兴地去北京", ("鲁迅", "person"), ("北京", "place")),
        row("绍兴", ("绍兴", "place")),
    ]
    examples = examples_of(tmp_path, train, test)
    found = figures(gazetteer(Ner(), examples))
    assert (found["span_precision"], found["span_recall"]) == (1.0, pytest.approx(2 / 3))


def test_it_is_a_baseline_unless_left_out() -> None:
    assert [*Ner().baselines] == ["gazetteer"]
    assert Ner(evaluation={"gazetteer": False}).baselines == {}  # type: ignore[arg-type]
