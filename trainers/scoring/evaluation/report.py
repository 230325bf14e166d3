"""The page of an evaluation: its figures with intervals, and what they are made of. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cluster.lazy_import import lazy_import
from trainers.corpora.report.counts import bar
from trainers.corpora.report.dots import Dot, Dots
from trainers.corpora.report.page import (
    MARKS,
    ROWS,
    Marked,
    Plot,
    Section,
    Table,
    Tile,
    render,
    share,
)
from trainers.scoring.evaluation.figures import errors, tally_of
from trainers.scoring.evaluation.labelled import DROPPED
from trainers.scoring.evaluation.plots import (
    length_plot,
    likeness_histogram,
    reliability_plot,
    score_histogram,
    token_histogram,
)
from trainers.scoring.evaluation.records import Record
from trainers.scoring.evaluation.slices import LEAST_RECORDS
from trainers.scoring.evaluation.text import (
    BY_GROUP,
    difference_rows,
    number,
    shown_intervals,
    with_interval,
)
from trainers.tasks.spec import Shown, TaskSection
from trainers.tasks.tally import Answers

MODEL, OTHER = "kept", "before"
"""Their colours."""
ERRORS = 40
FIRST = 10
"""Rows with written answers that are shown whatever these are."""
SHOWN_CHARACTERS = 400
"""Of a text that is wrong."""
CONFUSED = 20
"""Labels in the confusion matrix at most: those with most documents."""
ABOUT_INTERVALS = "Whiskers are 95 % intervals of the bootstrap over {}."


def evaluation_page(
    task: TaskSection,
    evaluation: Mapping[str, Any],
    records: Sequence[Record],
    artifact_id: str,
    subject: str,
    about: str,
    dropped: Sequence[Mapping[str, str]] = (),
) -> str:
    """The page of what `evaluate` computed from records; `subject` is what they are of, `test` or
    `data`, and `about` says which model it is of and on what. `dropped` are rows of a file that are
    not among them."""
    computed = evaluation[subject]
    tally = tally_of(task, records)
    wrong, cut = int((~tally.correct).sum()), evaluation["reading"]["truncated"]
    shown = [task.headline, *(name for name in task.test_metrics if name != task.headline)]
    tiles: dict[str, str | int | Tile] = {
        task.metrics[name].title: _tile(computed, name) for name in shown
    }
    tiles |= {
        "rows": len(records),
        "rows not all right": f"{wrong:,} ({share(wrong, len(records))})",
        "texts cut": f"{cut:,} ({share(cut, len(records))})",
    }
    sections = [
        _figures(task, evaluation, subject),
        *_written(task.shown, computed, records),
        *_mistakes(computed),
        *_confusion(computed),
        *_by_label(computed),
        *_slices(task, evaluation, computed),
        *_sure(evaluation, tally.answers),
        _errors(task, errors(tally, records, ERRORS)),
        _reading(task, evaluation["reading"], evaluation.get("left_out", {}), records),
        *_rows(evaluation.get("rows"), dropped),
    ]
    return render(f"Evaluation of {about}", artifact_id, tiles, sections)


def _tile(computed: Mapping[str, Any], name: str) -> Tile:
    low, high = shown_intervals(computed)[name]
    return Tile(f"{computed[name]:.4f}", f"95 %: {low:.4f} to {high:.4f}")


def _figures(task: TaskSection, evaluation: Mapping[str, Any], subject: str) -> Section:
    """Each metric of the model, beside its baselines and further seeds."""
    against: Mapping[str, Any] = evaluation.get("against", {})
    shown = {"this model": evaluation[subject], **{name: evaluation[name] for name in against}}
    plots = []
    for name in task.test_metrics:
        dots = [
            _dot(label, of, name, MODEL if label == "this model" else OTHER)
            for label, of in shown.items()
            if name in of
        ]
        if name == task.headline:
            dots += _seeds(evaluation.get("seeds", {}))
        metric = task.metrics[name]
        better = "more" if metric.mode == "max" else "less"
        plots.append(Plot(f"{metric.title}; {better} is better", dots=Dots(dots)))
    by_group = BY_GROUP in evaluation[subject]
    about = ABOUT_INTERVALS.format("groups of rows" if by_group else "rows")
    if evaluation.get("seeds"):
        about += " Of several seeds they are Student's, over the seeds."
    tables = [_differences(task, name, test) for name, test in against.items()]
    return Section("Figures", about, plots=plots, tables=tables)


def _dot(label: str, computed: Mapping[str, Any], name: str, colour: str) -> Dot:
    interval = shown_intervals(computed).get(name)
    return Dot(label, computed[name], interval, with_interval(computed, name), colour)


def _seeds(seeds: Mapping[str, Mapping[str, Any]]) -> Iterator[Dot]:
    for kind, of in seeds.items():
        if kind == "gain from pretraining" or (kind == "pretrained" and len(of["values"]) < 2):
            continue
        half, mean = of.get("half_width_95"), of["mean"]
        interval = None if half is None else [mean - half, mean + half]
        count = len(of["values"])
        label = f"{kind}, {count} seeds" if count > 1 else kind
        yield Dot(label, mean, interval, number(mean, interval), OTHER)


def _differences(task: TaskSection, name: str, test: Mapping[str, Any]) -> Table:
    head = ["Metric", "This model is higher by", "p"]
    caption = f"Against {name}, on the same {test['rows']:,} rows"
    return Table(caption, head, difference_rows(task.metrics, test))


def _sure(evaluation: Mapping[str, Any], answers: Answers | None) -> Iterator[Section]:
    """How sure the model is, and how right."""
    if answers is None:
        return
    noun = answers.noun
    plots = [
        Plot(
            f"Share of {noun} that are right, by confidence; a dot's area is its share of the "
            f"{noun}",
            svg=reliability_plot(evaluation["calibration"]),
        ),
        Plot(f"{noun.capitalize()} by score, right on top of wrong", svg=score_histogram(answers)),
    ]
    about = (
        "A model is calibrated where it is right as often as it says: its dots are then on the "
        "broken line. Below it the model is too sure."
    )
    legend = {"kept": "right", "dropped": "wrong; how far its confidence is off"}
    yield Section("How sure it is", about, legend, plots)


def _written(
    shown: Shown, computed: Mapping[str, Any], records: Sequence[Record]
) -> Iterator[Section]:
    """Of tasks whose answers are texts that the model writes."""
    reasons: Mapping[str, int] | None = computed.get("finish_reasons")
    if reasons is None:
        return
    bars = [
        bar(reason, count, len(records), "kept" if reason == "stop" else "dropped")
        for reason, count in sorted(reasons.items(), reverse=True)
    ]
    texts = [[len(record[key]) for record in records] for key in ("gold", "prediction")]
    plots = [
        Plot("Rows by ROUGE-L", svg=likeness_histogram([one["rouge_l"] for one in records])),
        Plot("Characters of each answer over those of the true one", svg=length_plot(*texts)),
        Plot("How answers end: stop by the model itself, length by the most tokens", bars),
    ]
    about = "Dots on the broken line are of answers as long as the true ones."
    first = _answer_table(shown, records[:FIRST], "The first rows")
    yield Section("Answers", about, plots=plots, tables=[first])


def _mistakes(computed: Mapping[str, Any]) -> Iterator[Section]:
    """Of tasks whose answers can be wrong in several ways."""
    counts: Mapping[str, int] | None = computed.get("mistakes")
    if counts is None:
        return
    bars = [
        bar(kind, count, sum(counts.values()), "kept" if kind == "right" else "dropped")
        for kind, count in counts.items()
    ]
    about = (
        "What was found is compared with what is true where they share characters. What has a "
        "wrong boundary or label counts as both missed and extra in precision and recall."
    )
    yield Section("What goes wrong", about, plots=[Plot("Entities by how they were found", bars)])


def _confusion(computed: Mapping[str, Any]) -> Iterator[Section]:
    matrix = computed.get("confusion")
    if matrix is None:
        return
    labels = [*computed["per_label"], "none"][: len(matrix)]
    sizes = {place: sum(row) for place, row in enumerate(matrix)}
    kept = sorted(sorted(sizes, key=lambda place: -sizes[place])[:CONFUSED])
    rows, shades = [], []
    for place in kept:
        rows.append([labels[place], *(matrix[place][other] for other in kept)])
        whole = max(1, sizes[place])
        shares = {other: matrix[place][other] / whole for other in kept}
        shades.append([of if other == place else -of for other, of in shares.items()])
    about = (
        "Rows are true labels, columns predicted ones; a cell is shaded by its share of the row."
    )
    if len(kept) < len(labels):
        about += f" Of {len(labels):,} labels the {len(kept)} with most documents."
    head = ["", *(labels[place] for place in kept)]
    yield Section("Confusion", about, tables=[Table("", head, rows, shades=shades)])


def _by_label(computed: Mapping[str, Any]) -> Iterator[Section]:
    """A table of each part of the figures that has figures by a name, such as by label."""
    tables = []
    for name, parts in computed.items():
        if not (isinstance(parts, dict) and parts and all(map(_is_figures, parts.values()))):
            continue
        columns = [*next(iter(parts.values()))]
        rows = [
            [label, *(_cell(of.get(column)) for column in columns)] for label, of in parts.items()
        ]
        what, _, part = name.rpartition("per_")
        caption = f"{what}by {part}".replace("_", " ").capitalize()
        head = [part.capitalize(), *map(str.capitalize, columns)]
        tables.append(Table(caption, head, rows, folded=len(rows) > ROWS))
    if tables:
        yield Section("Parts", tables=tables)


def _is_figures(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(one, int | float) for one in value.values())


def _cell(value: float | None) -> str | int:
    if value is None:
        return "–"
    return value if isinstance(value, int) else f"{value:.4f}"


def _slices(
    task: TaskSection, evaluation: Mapping[str, Any], computed: Mapping[str, Any]
) -> Iterator[Section]:
    name = task.headline
    plots = []
    for column, parts in evaluation["slices"].items():
        dots = []
        for part in parts:
            value, interval = part["metrics"][name], part["intervals"][name]
            note = f"{value:.4f} · {part['documents']:,} rows"
            colour = OTHER if "others" in part else MODEL
            dots.append(Dot(part["value"], value, interval, note, colour))
            dots += _of_baselines(evaluation, column, part, name)
        plots.append(Plot(f"By {column}", dots=Dots(dots, mark=computed[name])))
    title = task.metrics[name].title
    about = f"{title[0].upper()}{title[1:]} of parts of the rows; the line is that of all."
    left_out = ", ".join(
        f"{column} ({values:,} values)" for column, values in evaluation["unsliced"].items()
    )
    if left_out:
        about += f" Left out, since no value has {LEAST_RECORDS} rows: {left_out}."
    if plots or left_out:
        yield Section("Slices", about, plots=plots)


def _of_baselines(
    evaluation: Mapping[str, Any], column: str, part: Mapping[str, Any], name: str
) -> Iterator[Dot]:
    """Of the same part of the rows."""
    for baseline in evaluation.get("against", {}):
        for same in evaluation[baseline].get("slices", {}).get(column, []):
            if (same["value"], same["documents"]) == (part["value"], part["documents"]):
                value, interval = same["metrics"][name], same["intervals"][name]
                yield Dot(f"{part['value']}, {baseline}", value, interval, f"{value:.4f}", OTHER)


def _reading(
    task: TaskSection,
    reading: Mapping[str, int],
    left_out: Mapping[str, int],
    records: Sequence[Record],
) -> Section:
    tokens = [record["tokens"] for record in records]
    cut, average = reading["truncated"], sum(tokens) / len(tokens)
    about = (
        f"{reading['tokens']:,} tokens in {len(tokens):,} rows, {average:,.0f} on average. "
        f"{cut:,} texts ({share(cut, len(tokens))}) have more than the model reads, and were cut."
    )
    plot = Plot("Rows by tokens read", svg=token_histogram(tokens, task.most_tokens))
    tables = [Table("Rows that are not evaluated", ("Why", "Number"), [*left_out.items()])]
    return Section("What it read", about, plots=[plot], tables=tables if left_out else [])


def _rows(
    rows: Mapping[str, Any] | None, dropped: Sequence[Mapping[str, str]]
) -> Iterator[Section]:
    """What became of the rows of a file."""
    if rows is None:
        return
    fates = {"kept": rows["kept"], **rows["dropped"]}
    parts = (
        (f"{rows['read']:,} rows read", "What became of them", fates),
        ("In the rows read", "What is to be told of them", rows["noted"]),
        ("Labels that the model does not know", "Label", rows["unknown_labels"]),
    )
    tables = [
        Table(caption, (what, "Number"), [*counts.items()])
        for caption, what, counts in parts
        if counts
    ]
    if dropped:
        shown = [[row["text"], row["reason"], row["where"]] for row in dropped[:ROWS]]
        caption = f"The first rows that were dropped; {len(dropped):,} are in {DROPPED}"
        head = ("Text", "Why", "Where")
        tables.append(Table(caption, head, shown, names=3, folded=True, texts=True))
    seen = rows["trained_on"]
    about = f"{seen:,} of the rows are among those that the model was trained on." if seen else ""
    yield Section("Rows of the file", about, tables=tables)


def _errors(task: TaskSection, wrong: Sequence[Record]) -> Section:
    about = task.shown.worst
    if not wrong:
        return Section("Worst errors", "There are none.")
    if task.marked is None:
        return Section("Worst errors", about, tables=[_answer_table(task.shown, wrong)])
    rows = [[marked_text(task, record), record["tokens"]] for record in wrong]
    table = Table("", ("Text", "Tokens"), rows, texts=True)
    about += " Marks, and places in records.parquet, are places in these."
    return Section("Worst errors", about, MARKS, tables=[table])


def _answer_table(shown: Shown, records: Sequence[Record], caption: str = "") -> Table:
    rows = [
        [
            beginning(record[shown.text]),
            beginning(answer(record["gold"])),
            beginning(answer(record["prediction"])),
            score_text(shown, record),
            record["tokens"],
        ]
        for record in records
    ]
    head = (shown.text_title, "True", "Predicted", shown.score_title, "Tokens")
    return Table(caption, head, rows, names=3, texts=True)


def marked_text(task: TaskSection, record: Record) -> Marked:
    """Of a task whose answers are parts of a text."""
    assert task.marked is not None
    marked: Marked = lazy_import(task.marked)(record)
    return marked


def score_text(shown: Shown, record: Record) -> str:
    score = record.get(shown.score)
    return "–" if score is None else f"{score:.4f}"


def beginning(text: str) -> str:
    if len(text) <= SHOWN_CHARACTERS:
        return text
    return f"{text[:SHOWN_CHARACTERS]} … ({len(text) - SHOWN_CHARACTERS:,} more characters)"


def answer(value: str | Sequence[str]) -> str:
    """A label, or labels, as people read them."""
    return value if isinstance(value, str) else ", ".join(value) or "none"
