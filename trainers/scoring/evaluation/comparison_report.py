"""The page of a comparison: the differences of two models, and the rows where they differ. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from trainers.corpora.report.dots import Dot, Dots
from trainers.corpora.report.page import MARKS, Plot, Section, Table, Tile, render
from trainers.scoring.evaluation.bootstrap import RESAMPLES
from trainers.scoring.evaluation.records import Record
from trainers.scoring.evaluation.report import answer, beginning, marked_text, score_text
from trainers.scoring.evaluation.text import number, p_text
from trainers.tasks.spec import TaskSection

FLIPS = 40
"""Rows shown of each kind."""


def comparison_page(
    task: TaskSection,
    comparison: Mapping[str, Any],
    first: Sequence[Record],
    second: Sequence[Record],
    flips: Sequence[Sequence[int]],
    artifact_id: str,
) -> str:
    """`flips` are the places of rows that only the first has right, and only the second, the worst
    first."""
    headline = comparison["metrics"][task.headline]
    interval = "95 %: {:+.4f} to {:+.4f}".format(*headline["interval"])
    tiles: dict[str, str | int | Tile] = {
        f"difference in {task.metrics[task.headline].title}": Tile(
            f"{headline['difference']:+.4f}", interval
        ),
        "p of McNemar's test": p_text(comparison["p_mcnemar"]),
        "rows": comparison["rows"],
        "only the first is right": comparison["only_first_right"],
        "only the second is right": comparison["only_second_right"],
    }
    sections = [
        _differences(task, comparison),
        *(
            _flips(task, title, [(first[place], second[place]) for place in places], wrong)
            for title, places, wrong in (
                ("Only the second is right", flips[1], 0),
                ("Only the first is right", flips[0], 1),
            )
            if places
        ),
    ]
    return render("Comparison", artifact_id, tiles, sections)


def _differences(task: TaskSection, comparison: Mapping[str, Any]) -> Section:
    dots, rows = [], []
    for name, of in comparison["metrics"].items():
        title, difference = task.metrics[name].title, of["difference"]
        has_more = task.metrics[name].mode == "max"
        is_worse = (difference < 0) == has_more and difference != 0
        note = f"{difference:+.4f}, p {p_text(of['p'])}"
        dots.append(Dot(title, difference, of["interval"], note, "dropped" if is_worse else "kept"))
        values = (f"{of['first']:.4f}", f"{of['second']:.4f}")
        rows.append([title, *values, number(difference, of["interval"], "+"), p_text(of["p"])])
    head = ("Metric", "First", "Second", "Difference [95 % interval]", "p")
    about = (
        f"The first is {comparison['model']}, the second {comparison['against']}. Whiskers are "
        "95 % intervals of the bootstrap over the same rows for both; by its "
        f"{RESAMPLES:,} resamples no p can be under {p_text(2 / (RESAMPLES + 1))}."
    )
    if comparison["left_out"]:
        about += (
            f" {comparison['left_out']:,} rows are left out: the cleaning of only one model keeps "
            "them."
        )
    return Section(
        "Differences",
        about,
        {"kept": "the first is better", "dropped": "the second is better"},
        [Plot("First minus second", dots=Dots(dots, mark=0.0))],
        [Table("", head, rows)],
    )


def _flips(
    task: TaskSection, title: str, pairs: Sequence[tuple[Record, Record]], wrong: int
) -> Section:
    """`wrong` says which of a pair is."""
    about = f"{len(pairs):,} rows; those come first where the wrong model is most wrong."
    if task.marked is not None:
        rows = [[marked_text(task, pair[wrong])] for pair in pairs[:FLIPS]]
        table = Table("", (f"As the {('first', 'second')[wrong]} reads it",), rows, texts=True)
        return Section(title, about, MARKS, tables=[table])
    shown = task.shown
    answers = [
        [
            beginning(ours[shown.text]),
            beginning(answer(ours["gold"])),
            *(beginning(answer(one["prediction"])) for one in (ours, theirs)),
            *(score_text(shown, one) for one in (ours, theirs)),
        ]
        for ours, theirs in pairs[:FLIPS]
    ]
    scores = (f"{which}'s {shown.score_title}" for which in ("First", "Second"))
    head = (shown.text_title, "True", "First says", "Second says", *scores)
    return Section(title, about, tables=[Table("", head, answers, names=4, texts=True)])
