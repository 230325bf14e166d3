"""The pictures of an evaluation's page: reliability, scores, tokens, written answers."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from trainers.corpora.report.picture import STAND_INS, picture
from trainers.tasks.tally import Answers

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BARS = 30
RIGHT, WRONG, BESIDE = (STAND_INS[name] for name in ("kept", "dropped", "before"))


def reliability_plot(bins: Sequence[Mapping[str, float]]) -> str:
    """The share that is right over confidence: on the diagonal where the model is as often right as
    it says. A dot's area is its share of the answers."""
    confidence = [one["confidence"] for one in bins]
    correct = [one["correct"] for one in bins]
    answers = np.array([one["answers"] for one in bins])

    def draw(axes: "Axes") -> None:
        axes.plot([0, 1], [0, 1], color=BESIDE, linewidth=0.8, linestyle="dashed")
        axes.plot(confidence, correct, color=RIGHT, linewidth=1.2)
        axes.vlines(confidence, correct, confidence, color=WRONG, linewidth=0.8)
        sizes = 8 + 160 * answers / answers.sum()
        axes.scatter(confidence, correct, s=sizes, color=RIGHT, linewidth=0, zorder=3)
        least = min(*confidence, *correct)
        axes.set(xlim=(max(0, min(confidence) - 0.05), 1.02), ylim=(max(0, least - 0.1), 1.05))
        axes.set(xlabel="confidence", ylabel="share that is right")

    return picture(draw, height=3.2)


def score_histogram(answers: Answers) -> str:
    """Right and wrong answers by their score, stacked."""
    scores, correct = answers.confidence, answers.correct
    edges = np.histogram_bin_edges(scores, BARS)
    counts = [np.histogram(scores[chosen], edges)[0] for chosen in (~correct, correct)]

    def draw(axes: "Axes") -> None:
        axes.stairs(counts[0], edges, fill=True, color=WRONG)
        axes.stairs(counts[0] + counts[1], edges, baseline=counts[0], fill=True, color=RIGHT)
        axes.set(xlabel="score", ylabel=answers.noun)
        axes.grid(False, axis="x")

    return picture(draw, height=3.2)


def likeness_histogram(values: Sequence[float]) -> str:
    """Rows by how like their answers are to the true ones, from 0 to 1."""
    edges = np.linspace(0, 1, BARS + 1)
    counts = np.histogram(values, edges)[0]

    def draw(axes: "Axes") -> None:
        axes.stairs(counts, edges, fill=True, color=RIGHT)
        axes.axvline(float(np.mean(values)), color=BESIDE, linewidth=1, linestyle="dashed")
        axes.set(xlabel="ROUGE-L; the broken line is the mean", ylabel="rows")
        axes.grid(False, axis="x")

    return picture(draw)


def length_plot(true: Sequence[int], answers: Sequence[int]) -> str:
    """A dot a row, at the characters of its true answer and of the model's; of none at 1."""
    most = max(1, *true, *answers)

    def draw(axes: "Axes") -> None:
        axes.plot([1, most], [1, most], color=BESIDE, linewidth=0.8, linestyle="dashed")
        axes.scatter(np.maximum(true, 1), np.maximum(answers, 1), s=6, color=RIGHT, linewidth=0)
        axes.set(xscale="log", yscale="log", xlabel="true answer", ylabel="answer")

    return picture(draw, height=3.2)


def token_histogram(tokens: Sequence[int], most: int | None) -> str:
    """Rows by the tokens that were read of them; a broken line where longer ones are cut."""
    edges = np.linspace(0, max(tokens if most is None else [*tokens, most]) + 1, BARS + 1)
    counts = np.histogram(tokens, edges)[0]

    def draw(axes: "Axes") -> None:
        axes.stairs(counts, edges, fill=True, color=RIGHT)
        if most is not None:
            axes.axvline(most, color=BESIDE, linewidth=1, linestyle="dashed")
        axes.set(xlabel="tokens", ylabel="rows")
        axes.grid(False, axis="x")

    return picture(draw)
