"""The part of a training section that is DeepSpeed's: ZeRO, offload, and its own keys passed on.

DeepSpeed itself checks the keys inside its sections, where training starts. Here they are checked
against raymill's: no key may say again, or otherwise, what a key of raymill's says.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Literal, Self

from pydantic import model_validator

from cluster.recipe.section import Invalid, Section, nearest, operational


class Zero(Section):
    """DeepSpeed's ZeRO: what is sharded over the workers (Rajbhandari et al. 2020), and what is
    kept out of the GPUs' memory (Rajbhandari et al. 2021)."""

    stage: Literal[0, 1, 2, 3] = operational(2)
    """0 nothing, 1 optimizer state, 2 and gradients, 3 and parameters."""
    offload_optimizer: Literal["cpu", "nvme"] | None = operational(None)
    """Where the optimizer's state is kept, and its step computed on the CPU: `cpu` is the node's
    memory, for stages 1 to 3; `nvme` files, for stage 3. By default with the model."""
    offload_parameters: Literal["cpu", "nvme"] | None = operational(None)
    """Where parameters wait that no layer uses just now; for stage 3."""
    nvme_path: str | None = operational(None)
    """A folder on each node's fast disk, for `nvme`. Needs libaio there (libaio-dev). Its files are
    deleted with the training, or by the next one."""

    @model_validator(mode="after")
    def _stage_allows_offload(self) -> Self:
        if self.offload_optimizer is not None and self.stage == 0:
            raise Invalid("offload_optimizer", f"{self.offload_optimizer} needs stage 1, 2 or 3")
        if self.offload_optimizer == "nvme" and self.stage != 3:
            raise Invalid(
                "offload_optimizer", f"nvme needs stage 3, found stage {self.stage}; it can do cpu"
            )
        if self.offload_parameters is not None and self.stage != 3:
            raise Invalid(
                "offload_parameters",
                f"{self.offload_parameters} needs stage 3, found stage {self.stage}",
            )
        if "nvme" in (self.offload_optimizer, self.offload_parameters):
            if self.nvme_path is None:
                raise Invalid("nvme_path", "missing; offload to nvme needs a folder")
        elif self.nvme_path is not None:
            raise Invalid("nvme_path", f"{self.nvme_path!r} is of no use without offload to nvme")
        return self


PASSED_ON = (
    "aio", "bf16", "comms_logger", "communication_data_type", "data_types", "disable_allgather",
    "disable_python_gc", "dump_state", "flops_profiler", "fp16", "gradient_predivide_factor",
    "memory_breakdown", "prescale_gradients", "timers", "wall_clock_breakdown",
    "zero_optimization",
)  # fmt: skip
"""DeepSpeed's keys that may be set. Of the others it ignores those that it does not know, without a
word; the rest would change what raymill promises, such as the mean over the global batch."""
COUNTERPARTS = {
    "train_batch_size": "batch_size",
    "train_micro_batch_size_per_gpu": "micro_batch_size",
    "gradient_accumulation_steps": "micro_batch_size",
    "gradient_clipping": "gradient_clipping",
    "optimizer": "optimizer",
    "scheduler": "schedule",
    "fp16.enabled": "precision",
    "bf16.enabled": "precision",
    "bf16.check_grad_overflow": "anomalies.non_finite",
    "bfloat16": "precision",
    "torch_autocast": "precision",
    "data_types.param_dtype": "precision",
    "zero_optimization.stage": "zero.stage",
    "zero_optimization.offload_optimizer.device": "zero.offload_optimizer",
    "zero_optimization.offload_optimizer.nvme_path": "zero.nvme_path",
    "zero_optimization.offload_param.device": "zero.offload_parameters",
    "zero_optimization.offload_param.nvme_path": "zero.nvme_path",
    "activation_checkpointing": "activation_checkpointing",
    "compile": "compile",
}
"""DeepSpeed's keys, and those of raymill that set them."""


def refuse_contradictions(passed_on: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Raises Invalid for a DeepSpeed key that cannot be set; `values` are the training section's
    own."""
    for key, value in _dotted(passed_on):
        if key in COUNTERPARTS:
            section, _, name = COUNTERPARTS[key].partition(".")
            ours = getattr(values[section], name) if name else values[section]
            raise Invalid(
                f"deepspeed.{key}",
                f"{value!r} stands beside {COUNTERPARTS[key]} = {ours!r}; set that",
            )
    for key in passed_on:
        if key not in PASSED_ON:
            hint = nearest(key, PASSED_ON) or f"; those that can: {', '.join(PASSED_ON)}"
            raise Invalid(f"deepspeed.{key}", f"cannot be passed on to DeepSpeed{hint}")


def _dotted(keys: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in keys.items():
        yield f"{prefix}{key}", value
        if isinstance(value, Mapping):
            yield from _dotted(value, f"{prefix}{key}.")
