"""The text of the first request to an endpoint: one as the model knows them."""

import pyarrow as pa

from cluster.store import artifacts
from cluster.store.artifacts import Artifact

MAX_CHARACTERS = 60
WITHOUT_EXAMPLES = "很好，非常满意！"


def sample_text(promotion: Artifact) -> str:
    """The first short text of the test split that the promoted model was evaluated on, or the
    beginning of a long one."""
    examples = artifacts.lineage(promotion).get("examples")
    try:
        content = promotion.storage.read(f"{examples}/test.arrow")
    except FileNotFoundError:  # they may be deleted: the model answers without them
        return WITHOUT_EXAMPLES
    texts: list[str] = pa.ipc.open_stream(content).read_all()["text"].to_pylist()
    short = next((text for text in texts if len(text) <= MAX_CHARACTERS), texts[0])
    return short[:MAX_CHARACTERS]
