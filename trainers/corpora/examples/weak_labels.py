"""The recipe's `weak_labels`: rules that label documents which nobody has annotated."""

import re
from typing import Literal, Self

from pydantic import Field, model_validator

from cluster.recipe.section import Invalid, Section


class LabellingFunction(Section):
    """Votes for one label where its lexicon or its pattern is found; else it abstains."""

    label: str = Field(min_length=1)
    """What it votes for."""
    lexicon: tuple[str, ...] | None = Field(default=None, min_length=1)
    """Words, of which one is enough; upper and lower case are the same."""
    path: str | None = None
    """A file or URI with such words instead, one a line."""
    pattern: str | None = None
    """A regular expression of Python's, searched for in the cleaned text."""

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        if sum(rule is not None for rule in (self.lexicon, self.path, self.pattern)) != 1:
            raise ValueError("give `lexicon`, `path` or `pattern`, one of them")
        if self.lexicon is not None and not all(word.strip() for word in self.lexicon):
            raise Invalid("lexicon", "a word is empty")
        if self.pattern is not None:
            try:
                found = re.compile(self.pattern).search("")
            except re.error as error:
                raise Invalid(
                    "pattern", f"no regular expression: {error}, found {self.pattern!r}"
                ) from None
            if found:
                raise Invalid("pattern", f"is found in every text, found {self.pattern!r}")
        return self


class WeakLabels(Section):
    """Labelling functions, and how their votes become one label. Ties and documents without votes
    are dropped and counted."""

    functions: dict[str, LabellingFunction] = Field(min_length=1)
    """By names for the report, which tells of each how many documents it votes on, how often others
    agree, and how often it is right where documents have labels elsewhere too."""
    vote: Literal["majority", "label_model"] = "majority"
    """`label_model` learns from agreements and conflicts how often each function votes for what
    (Dawid and Skene 1979), and so weighs the votes."""
    min_probability: float | None = Field(default=None, gt=0, le=1)
    """What the label model must give a label; documents below it are dropped. The higher, the fewer
    and the surer are the labels, but some labels are reached less often: see `corpora.balance`."""

    @model_validator(mode="after")
    def _fits_vote(self) -> Self:
        if self.min_probability is not None and self.vote != "label_model":
            raise Invalid("min_probability", "goes with `vote: label_model`")
        return self
