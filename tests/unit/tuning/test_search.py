"""What ends a whole search, and what only a trial of it."""

import ray.exceptions

from cluster.errors import Diverged, InfrastructureError, UserError
from tuning.search import mistake_of_all


def task_error(cause: Exception) -> ray.exceptions.RayTaskError:
    return ray.exceptions.RayTaskError("trial", "traceback", cause)


def test_a_mistake_is_of_all_trials_and_divergence_of_one() -> None:
    mistake = UserError("finetune.labels: ...")
    diverged = task_error(Diverged("anomalies: step 3 ..."))
    lost = task_error(InfrastructureError("training gave up"))
    assert mistake_of_all([diverged, lost, RuntimeError("a bug")]) is None
    assert mistake_of_all([diverged, task_error(mistake), lost]) is mistake
    assert mistake_of_all([mistake]) is mistake
