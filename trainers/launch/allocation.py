"""How many workers a training gets and how many CPUs each, where a recipe says `auto`.

A worker has all CPUs of its node, up to THREADS; a node with more has several workers. A worker
with a GPU has its share of the node's CPUs, and nodes without one have none. Trainings that run
side by side, such as the trials of a search, have one worker each, and share the CPUs: as many of
them as find a GPU, where they need one.
"""

from collections.abc import Mapping, Sequence

from cluster.ray.resources import concurrent
from cluster.recipe.loading import override
from cluster.recipe.section import Recipe
from cluster.runs.progress import Progress
from trainers.engine.training_config import Training

Nodes = Sequence[Mapping[str, float]]
"""What each has, such as {"CPU": 4.0, "GPU": 1.0}."""
THREADS = 8
"""More hardly help a model that is small enough for CPUs; more workers do."""


def allocate(settings: Training, nodes: Nodes, side_by_side: int = 1) -> tuple[int, int]:
    """Workers and CPUs of each: what is `auto` as these nodes have it, else the recipe's own number
    (of elastic workers the most, or side by side the least). Pure."""
    gpus = settings.gpus_per_worker
    cpus = None if settings.cpus_per_worker == "auto" else settings.cpus_per_worker

    def room(threads: int) -> int:
        each = {"CPU": float(threads), "GPU": gpus}
        return sum(concurrent(each, node, at_most=2**31) for node in nodes)

    def fitting(workers: int) -> list[int]:
        """CPUs of each with which so many have room; the most last."""
        return [threads for threads in range(1, THREADS + 1) if room(threads) >= workers] or [1]

    group, is_fraction = settings.workers_per_group, 0 < gpus < 1  # which one worker alone may have
    if settings.workers != "auto" or side_by_side > 1 or is_fraction:
        workers = _workers(settings, side_by_side)
        return workers, cpus or fitting(min(workers * side_by_side, max(1, room(1))))[-1]
    if cpus is None and gpus:
        cpus = fitting(max(group, room(1)))[-1]
    elif cpus is None:  # of what uses equally many CPUs, the fewest workers
        cpus = max(fitting(group), key=lambda threads: (threads * room(threads), threads))
    most = min(room(cpus), settings.batch_size * group)  # every worker needs a sequence in a step
    return max(group, most - most % group), cpus


def side_by_side(recipe: Recipe, stage: str) -> int:
    """How many trainings a stage runs at the same time, if there is room. Pure."""
    if stage == "tune":
        return min(recipe.tune.concurrent, recipe.tune.trials)
    if stage == "evaluate" and recipe.finetune.most_workers == 1:  # else one after the other
        evaluation = recipe.finetune.evaluation
        return max(1, evaluation.seeds - 1 + evaluation.seeds * evaluation.without_pretraining)
    return 1


def allocated(recipe: Recipe, section: str, nodes: Nodes, together: int = 1) -> Recipe:
    """The recipe with numbers where a training section says `auto`. Pure."""
    settings: Training = getattr(recipe, section)
    workers, cpus = allocate(settings, nodes, together)
    found = {"workers": workers, "cpus_per_worker": cpus}
    return override(
        recipe,
        {f"{section}.{key}": value for key, value in found.items() if _is_auto(settings, key)},
    )


def decided(recipe: Recipe, section: str, stage: str, nodes: Nodes, progress: Progress) -> Recipe:
    """What a stage runs with; a line tells what was decided."""
    settings: Training = getattr(recipe, section)
    if not any(_is_auto(settings, key) for key in ("workers", "cpus_per_worker")):
        return recipe
    together = side_by_side(recipe, stage)
    recipe = allocated(recipe, section, nodes, together)
    progress.line(told(getattr(recipe, section), together))
    return recipe


def told(settings: Training, together: int) -> str:
    """In words. Pure."""
    each = f" for each of {together} trainings side by side" if together > 1 else ""
    gpus = settings.gpus_per_worker
    with_gpus = f" and {gpus:g} GPU" if gpus else ""
    return (
        f"{_workers(settings, together)} x {settings.worker_cpus} CPUs{with_gpus}{each} "
        "(workers x cpus_per_worker; auto)"
    )


def _workers(settings: Training, side_by_side: int) -> int:
    """Elastic trainings that run side by side would wait for each other's room: they stay small."""
    return settings.least_workers if side_by_side > 1 else settings.most_workers


def _is_auto(settings: Training, key: str) -> bool:
    return getattr(settings, key) == "auto"
