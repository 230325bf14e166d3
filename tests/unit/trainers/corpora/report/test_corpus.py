"""The page of a corpus, as a browser reads it."""

import copy
from collections.abc import Iterator
from typing import Any

from tests.unit.trainers.corpora.report.reading import Read
from trainers.corpora.report.corpus import corpus_page

Report = dict[str, Any]
ID = "corpus/demo-shard-0123456789ab"


def whole_numbers(value: Any) -> Iterator[int]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key != "lengths":  # drawn, as other tests see
                yield from whole_numbers(inner)
    elif isinstance(value, int):
        yield value


def test_every_figure_is_on_the_page(report: Report) -> None:
    text = Read(corpus_page(report, ID)).text
    missing = [count for count in whole_numbers(report) if f"{count:,}" not in text]
    assert missing == []
    for figure in ("99.6%", "1.42", "0.703", "0.718", "0.123%", "email\u00a03", ID):
        assert figure in text


def test_every_sample_is_shown_with_its_source_and_reason(report: Report) -> None:
    lines = Read(corpus_page(report, ID)).text.splitlines()
    shown = [line for line in lines[lines.index("Samples") :] if line][2:]
    assert shown == [
        *("kept", "2,000 documents", "news", "今天天气很好。", "reviews", "Very good."),
        *("too long", "77 documents", "reviews", "And so on and on"),
        *("too short", "32 documents", "news", "二", "news", "好"),
    ]


def test_it_is_one_file_that_runs_and_fetches_nothing(report: Report) -> None:
    page = Read(corpus_page(report, ID))
    assert not {"script", "link", "img", "iframe", "object", "embed"}.intersection(page.tags)
    assert not {"src", "srcset", "action"}.intersection(name for name, _ in page.attributes)
    assert all(value.startswith("#") for name, value in page.attributes if "href" in name)
    assert not any(name.startswith("on") for name, _ in page.attributes)
    ids = [value for name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))


def test_the_same_report_is_the_same_page(report: Report) -> None:
    assert corpus_page(report, ID) == corpus_page(copy.deepcopy(report), ID)


def test_texts_of_documents_cannot_become_markup(report: Report) -> None:
    hostile = "</pre></script><img src=x onerror=alert(1)>{{ 7 * 7 }}&amp;"
    news = report["sources"].pop("news")
    news["samples"] = {"kept": [hostile], hostile: [hostile]}
    news["dropped"] = {hostile: 700}
    report["sources"][hostile] = news
    page = corpus_page(report, ID)
    read = Read(page)
    assert not {"script", "img"}.intersection(read.tags)
    assert read.text.count(hostile) >= 6, "caption, tables, samples: as it stands"
    assert sum(hostile in plot for plot in read.plots) == 3, "in every plot that names it"


def test_what_cannot_be_seen_is_shown_as_its_code_point(report: Report) -> None:
    text = "a\x00b\x1b[31m\u202egnp.exe\u2066\u200b\ud800 می\u200cخواهم\nnext line"
    report["sources"]["news"]["samples"]["kept"] = [text]
    page = corpus_page(report, ID)
    page.encode("utf-8")
    shown = "a⟨U+0000⟩b⟨U+001B⟩[31m⟨U+202E⟩gnp.exe⟨U+2066⟩⟨U+200B⟩⟨U+D800⟩ می\u200cخواهم\nnext line"
    assert f'<pre dir="auto">\n{shown}</pre>' in page


def test_without_near_duplicates_it_says_so(report: Report) -> None:
    assert "118 near duplicates, in 61 clusters" in Read(corpus_page(report, ID)).text
    del report["near_duplicates"]
    text = Read(corpus_page(report, ID)).text
    assert "They were not looked for." in text
    assert "clusters" not in text


def test_near_duplicates_that_were_not_found_have_no_plot(report: Report) -> None:
    report["near_duplicates"] = {"documents": 0, "clusters": 0, "sizes": {}}
    text = Read(corpus_page(report, ID)).text
    assert "0 near duplicates, in 0 clusters" in text
    assert "Clusters by number" not in text


def test_a_source_without_documents_has_its_figures(report: Report) -> None:
    numbers = ("read", "kept", "characters", "tokens", "train_tokens")
    empty = {"dropped": {}, "masked": {}, "lengths": {}, "samples": {}}
    report["sources"]["empty"] = {**dict.fromkeys(numbers, 0), **empty}
    for chosen in (report, {**report, "sources": {"empty": report["sources"]["empty"]}}):
        page = corpus_page(chosen, ID)
        read = Read(page)
        row = read.cells.index("empty")
        assert read.cells[row : row + 10] == ["empty", *["0"] * 6, "–", "–", "–"]
        assert "empty: 0 read" in read.text
        assert read.plots


def test_of_a_thousand_reasons_the_most_frequent_are_plotted(report: Report) -> None:
    dropped = {f"reason {number}": number for number in range(1, 1001)}
    report["sources"] = {"news": {**report["sources"]["news"], "dropped": dropped}}
    page = Read(corpus_page(report, ID))
    assert [*page.plots[0]] == ["kept", *(f"reason {number}" for number in range(1000, 985, -1))]
    assert {f"reason {number}" for number in range(1, 1001)} <= set(page.cells), "the table has all"


def test_of_two_hundred_sources_the_largest_are_plotted(report: Report) -> None:
    news = report["sources"]["news"]
    report["sources"] = {
        f"crawl-{number}": {**news, "read": 1000 + number, "kept": 300 + number}
        for number in range(200)
    }
    page = corpus_page(report, ID)
    read = Read(page)
    assert len(read.plots) == 8 + 7 + 1 + 1
    assert "crawl-199: 1,199 read" in read.text
    assert set(report["sources"]) <= set(read.cells), "the table has all"
    assert f"{sum(1000 + number for number in range(200)):,}" in read.cells
    assert len(page) < 1_000_000


def test_lengths_are_shown_from_short_to_long(report: Report) -> None:
    plots = Read(corpus_page(report, ID)).plots
    assert {
        "4 to 7": "100 (7.7%)",
        "64 to 127": "400 (30.8%)",
        "256 to 511": "800 (61.5%)",
    } in plots
    assert {"0": "1 (0.1%)", "64 to 127": "699 (99.9%)"} in plots


def test_samples_of_many_sources_are_the_first_of_each(report: Report) -> None:
    news = report["sources"]["news"]
    report["sources"] = {
        f"crawl-{number}": {**news, "samples": {"kept": [f"<{number}-{i}>" for i in range(3)]}}
        for number in range(20)
    }
    text = Read(corpus_page(report, ID)).text
    assert all(f"<{number}-0>" in text for number in range(20))
    assert sum(f"<{number}-1>" in text for number in range(20)) == 4
