"""Do something for every item on the cluster, by Ray Data: one task an item, as many at once as
fit."""

import pickle
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from cluster.errors import UserError
from cluster.pipeline import StageJob


def each(
    job: StageJob,
    items: Sequence[dict[str, Any]],
    function: Callable[[dict[str, Any]], Any],
    unit: str,
) -> Iterator[Any]:
    """What `function` makes of every item, in any order. Raises the UserError that it raises."""
    if not items:
        return
    import ray.data

    def attempt(item: dict[str, Any]) -> dict[str, Any]:
        # Ray Data does not bring an exception back as what it was. So the user's mistake travels
        # as a row, and all rows as bytes, which Arrow does not look into.
        try:
            return {"outcome": pickle.dumps(function(pickle.loads(item["item"])))}
        except UserError as error:
            return {"outcome": pickle.dumps(error)}

    at_once = job.recipe.corpora.concurrency or max(1, int(job.resources["CPU"]))
    given = [{"item": pickle.dumps(item)} for item in items]
    dataset = ray.data.from_items(given, override_num_blocks=len(items))
    rows = dataset.map(attempt, concurrency=at_once).iter_rows()
    for done, row in enumerate(rows, start=1):
        outcome = pickle.loads(row["outcome"])
        if isinstance(outcome, UserError):
            raise outcome
        job.progress.update(done, len(items), unit)
        yield outcome
