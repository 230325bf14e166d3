"""Entities as hypothesis draws them."""

from typing import Any

from hypothesis import strategies as st

LABELS = ["organisation", "person", "place"]


@st.composite
def entities(draw: Any) -> list[dict[str, Any]]:
    """Some that do not overlap, as nervaluate takes them."""
    cuts = sorted(draw(st.sets(st.integers(0, 12), max_size=6)))
    spans = zip(cuts[::2], cuts[1::2], strict=False)
    return [
        {"start": start, "end": end, "label": draw(st.sampled_from(LABELS))} for start, end in spans
    ]
