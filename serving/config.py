"""The recipe's `serve` section."""

import socket
from collections.abc import Iterator
from typing import Any, Self

from pydantic import Field, model_validator

from cluster.errors import UserError
from cluster.ray.resources import gpus
from cluster.recipe.section import Conflict, Invalid, Recipe, Section, operational
from trainers.tasks.spec import gate_refusal


class Serve(Section):
    gate: dict[str, float] = Field(default_factory=dict)
    """Least value of a test metric, such as `accuracy: 0.8`, or the most that an error may be;
    what is worse is not promoted."""
    host: str = operational("127.0.0.1")
    """Where the endpoint listens; `0.0.0.0` for every network of the machine."""
    port: int = operational(8000, ge=1, le=65535)
    min_replicas: int = operational(1, ge=0)
    """Copies of the model that are always there; 0 starts the first with the first request."""
    max_replicas: int = operational(1, ge=1)
    """Copies that load can bring."""
    cpus_per_replica: float = operational(1.0, gt=0)
    gpus_per_replica: float = operational(0.0, ge=0)
    """1; or a fraction, for replicas that share a GPU, each with that part of its memory. A model
    answers on a GPU in the 16 bits that it was trained in, else in fp32."""
    max_batch_size: int = operational(32, ge=1)
    """Requests that one forward answers at most."""
    batch_wait_ms: float = operational(5.0, ge=0)
    """How long the first request of a batch waits for others."""
    max_inputs: int = operational(256, ge=1)
    """Inputs, such as texts, in one request at most; more are refused with status 413."""
    max_sequences: int = operational(8, ge=1)
    """Of a model that writes: answers that a replica writes at once."""
    max_queued: int = operational(32, ge=0)
    """Of a model that writes: requests that wait for a place; more are refused with status 429."""
    max_adapters: int = operational(4, ge=1)
    """Of a base with adapters: how many a replica holds; those not used for longest go first."""
    max_request_megabytes: float = operational(8.0, gt=0)
    """The body of one request at most; a larger one is refused with status 413, and not read."""

    @property
    def resources(self) -> dict[str, float]:
        """What the replicas hold that are there from the start."""
        replicas = max(1, self.min_replicas)
        wanted = {"CPU": replicas * self.cpus_per_replica}
        if self.gpus_per_replica:
            wanted["GPU"] = gpus(replicas, self.gpus_per_replica)
        return wanted

    @property
    def deployment(self) -> dict[str, Any]:
        """Options of the deployment of Ray Serve: how many replicas, and what each holds."""
        return {
            "autoscaling_config": {
                "min_replicas": self.min_replicas,
                "max_replicas": self.max_replicas,
            },
            "ray_actor_options": {
                "num_cpus": self.cpus_per_replica,
                "num_gpus": self.gpus_per_replica,
            },
        }

    def refuse_port_in_use(self) -> None:
        """Raises UserError if something listens already where the endpoint should: asked before a
        run of minutes, not after it."""
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((self.host, self.port))
            except OSError as error:
                raise UserError(
                    f"serve.port: {self.host}:{self.port} cannot be used: {error.strerror}; "
                    "set another, such as --set serve.port=8001"
                ) from error

    @model_validator(mode="after")
    def _replicas_are_possible(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise Invalid(
                "min_replicas", f"{self.min_replicas} is over max_replicas = {self.max_replicas}"
            )
        if self.gpus_per_replica > 1:
            raise Invalid(
                "gpus_per_replica",
                f"{self.gpus_per_replica:g} is over 1: a replica computes on one GPU; set more "
                "replicas",
            )
        return self

    def conflicts(self, recipe: Recipe) -> Iterator[Conflict]:
        if recipe.finetune is None:
            yield Conflict("serve", "needs the section finetune: it serves what that makes")
            return
        for name, limit in self.gate.items():
            reason = gate_refusal(type(recipe.finetune), name, limit)
            if reason is None and name not in recipe.finetune.test_metrics:
                known = ", ".join(recipe.finetune.test_metrics)
                reason = f"this recipe's evaluation does not report it; it reports {known}"
            if reason is not None:
                yield Conflict(f"serve.gate.{name}", reason)
