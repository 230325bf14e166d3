"""Where metrics go besides `metrics.jsonl`: TensorBoard, Weights & Biases, MLflow, Prometheus.

Trackers run on rank 0, in a thread beside the training: one that is slow or fails costs it nothing.
They take the metrics of one step after another. W&B and MLflow read their own environment variables
(WANDB_MODE, MLFLOW_TRACKING_URI, ...), which every node must have.
"""

import concurrent.futures
import dataclasses
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from cluster.errors import UserError
from cluster.recipe.section import absent
from cluster.runs.progress import Progress
from cluster.store.storage import Storage

UPLOAD_INTERVAL_S = 60.0


@dataclasses.dataclass(frozen=True)
class TrainingInfo:
    """What a tracker is told of a training."""

    recipe: str
    stage: str
    name: str
    """The same after every restart."""
    storage: Storage
    step: int
    """That it resumes from: metrics of later steps, which a tracker may have, are made again."""
    config: Mapping[str, Any]


class Tracker(Protocol):
    def log(self, step: int, values: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


class TensorBoard:
    """Event files in WORKSPACE/tensorboard/NAME: `tensorboard --logdir WORKSPACE/tensorboard` shows
    all trainings. To a remote workspace they are copied every minute."""

    def __init__(self, training: TrainingInfo):
        from tensorboardX import SummaryWriter

        self._storage, self._path = training.storage, f"tensorboard/{training.name}"
        if self._storage.is_local:
            self._folder = Path(self._storage.root, self._path)
        else:
            self._folder = Path(tempfile.mkdtemp(prefix="raymill-"))
        self._copied_at = time.monotonic()
        self._writer = SummaryWriter(
            str(self._folder),
            purge_step=training.step + 1,  # what an earlier process wrote from there on
            filename_suffix=f".{training.step}",
            flush_secs=10,
        )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        if time.monotonic() - self._copied_at >= UPLOAD_INTERVAL_S:
            self._writer.flush()
            self._copy()

    def close(self) -> None:
        self._writer.close()
        self._copy()
        if not self._storage.is_local:
            shutil.rmtree(self._folder)

    def _copy(self) -> None:
        if not self._storage.is_local:
            for path in self._folder.iterdir():
                self._storage.write(f"{self._path}/{path.name}", path.read_bytes())
            self._copied_at = time.monotonic()


class WandB:
    """A run of the project that is named as the recipe. Offline runs are in WORKSPACE/wandb; to a
    run that it knows W&B adds later steps only."""

    def __init__(self, training: TrainingInfo):
        import wandb

        self._run = wandb.init(
            project=training.recipe,
            id=training.name,
            resume="allow",
            config=dict(training.config),
            dir=training.storage.root if training.storage.is_local else None,
        )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()


class MLflow:
    """A run of the experiment that is named as the recipe, in WORKSPACE/mlflow.db unless
    MLFLOW_TRACKING_URI says where."""

    def __init__(self, training: TrainingInfo):
        import mlflow

        uri = os.environ.get("MLFLOW_TRACKING_URI")
        if uri is None and training.storage.is_local:
            uri = f"sqlite:///{training.storage.root}/mlflow.db"
        self._client = client = mlflow.MlflowClient(tracking_uri=uri)
        experiment = client.get_experiment_by_name(training.recipe)
        if experiment is None:
            experiment = client.get_experiment(client.create_experiment(training.recipe))
        number, name = experiment.experiment_id, training.name
        runs = client.search_runs([number], f"attributes.run_name = '{name}'")
        if runs:
            self._id = runs[0].info.run_id
            client.update_run(self._id, status="RUNNING")
        else:
            self._id = client.create_run(number, run_name=name).info.run_id
            for key, value in training.config.items():
                client.log_param(self._id, key, value)
        history = client.get_metric_history(self._id, "loss")
        self._last_step = max((metric.step for metric in history), default=-1)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        if step <= self._last_step:  # MLflow would keep both
            return
        now = int(time.time() * 1000)
        metrics = [Metric(name, value, now, step) for name, value in values.items()]
        self._client.log_batch(self._id, metrics=metrics)

    def close(self) -> None:
        self._client.set_terminated(self._id)


class Prometheus:
    """Gauges among Ray's metrics, which Prometheus reads from every node as `ray_raymill_NAME`, by
    recipe and stage."""

    def __init__(self, training: TrainingInfo):
        self._tags = {"recipe": training.recipe, "stage": training.stage}
        self._gauges: dict[str, Any] = {}

    def log(self, step: int, values: Mapping[str, float]) -> None:
        from ray.util.metrics import Gauge

        for name, value in {"step": step, **values}.items():
            if name not in self._gauges:
                metric = f"raymill_{name.replace('/', '_')}"
                self._gauges[name] = Gauge(metric, f"{name} of a training", tuple(self._tags))
            self._gauges[name].set(value, self._tags)

    def close(self) -> None:
        pass  # they end with the process


KINDS: Mapping[str, Callable[[TrainingInfo], Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": WandB,
    "mlflow": MLflow,
    "prometheus": Prometheus,
}


def values(line: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a line of metrics, those of the validation as `validation/NAME`."""
    validation = {f"validation/{name}": value for name, value in line.get("validation", {}).items()}
    rest = {name: line[name] for name in line.keys() - {"step", "time", "validation"}}
    numbers = {**rest, **validation}
    return {name: value for name, value in sorted(numbers.items()) if value is not None}


class Trackers:
    """All trackers of a training, in one thread beside it."""

    def __init__(self, names: Sequence[str], training: TrainingInfo, progress: Progress):
        """Raises UserError for a tracker whose package is not installed on this node."""
        for problem in absent(names):
            raise UserError(f"cluster.trackers: {problem}")
        self._training, self._progress = training, progress
        self._open: dict[str, Tracker] = {}
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "trackers")
        ray = sys.modules.get("ray")
        always = ["prometheus"] if ray is not None and ray.is_initialized() else []
        for name in [*names, *always]:
            self._thread.submit(self._try, name, self._start)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._thread.submit(self._each, lambda name: self._open[name].log(step, values))

    def close(self) -> None:
        """Waits for all of them."""
        self._thread.submit(self._each, lambda name: self._open[name].close())
        self._thread.shutdown()

    def _start(self, name: str) -> None:
        self._open[name] = KINDS[name](self._training)

    def _each(self, call: Callable[[str], None]) -> None:
        for name in list(self._open):
            self._try(name, call)

    def _try(self, name: str, call: Callable[[str], None]) -> None:
        try:
            call(name)
        except Exception as error:  # noqa: BLE001  of any kind: no tracker is worth a training
            self._open.pop(name, None)
            self._progress.line(f"{name} is left out from here on: {error!r}"[:300])
