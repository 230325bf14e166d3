"""A plan for people."""

from collections.abc import Mapping
from typing import Any

from cluster.runs.progress import counted
from trainers.engine.accelerators import CPU

PARTS = (
    "weights",
    "gradients",
    "optimizer",
    "buffers",
    "activations",
    "checkpoint",
    "framework",
    "peak",
)
MOMENTS = {
    "build": "while the model is built",
    "passes": "in the passes",
    "reduce": "while gradients are exchanged",
    "step": "in the optimizer's step",
    "export": "while the model is exported",
}
SERVED_BY = {
    "encoder": "raymill's endpoint for encoders",
    "vllm_adapter": "raymill's endpoint; vLLM takes it as an adapter of its base",
    "vllm_merged": "raymill's endpoint; vLLM takes it as a whole model",
    "transformers": "raymill's endpoint, on Transformers alone",
}


def as_text(plans: Mapping[str, Any]) -> str:
    return "\n\n".join("\n".join(_section(name, plan)) for name, plan in plans.items())


def _section(name: str, plan: Mapping[str, Any]) -> list[str]:
    units, share = plan["hardware"], plan["gpus_per_worker"]
    of_device = f"{share:g} of {units['name']}" if 0 < share < 1 else units["name"]
    and_gpu = f" and {share:g} GPU" if share else ""
    trained, served_by = plan["trained_parameters"], plan["served_by"]
    by = "" if plan["method"] == "full" else f" ({plan['method']} trains {trained:,})"
    lines = [
        f"{name}: {plan['parameters']:,} parameters in {plan['precision']}{by}, "
        f"{counted(plan['workers'], 'worker')} of "
        f"{counted(plan['cpus_per_worker'], 'CPU')}{and_gpu}; a step is "
        f"{counted(plan['micro_batches'], 'micro-batch', 'es')} of "
        f"{plan['micro_batch_size']} for each",
        f"  GB of a worker at its worst moment, of {units['memory_gb']:.3g} ({of_device}):",
        "  ZeRO" + "".join(f"{part:>12}" for part in PARTS) + "  largest micro-batch that fits",
    ]
    for stage, memory in plan["stages"].items():
        chosen = "*" if int(stage) == plan["stage"] else " "
        sizes = "".join(f"{memory[part] / 1e9:12.3f}" for part in PARTS)
        largest = memory["largest_micro_batch"] or "none"
        host = f"; {memory['host'] / 1e9:.3g} GB more of its node" if memory["host"] else ""
        lines.append(f"  {chosen} {stage} {sizes}  {largest}; most {MOMENTS[memory['at']]}{host}")
    lines.append(f"  {_fit(plan)}")
    if units["name"] != CPU:
        lines.append(f"  GPUs with room for it as it is: {', '.join(plan['room']) or 'none known'}")
    if served_by is not None:
        lines.append(f"  served by {SERVED_BY[served_by]}")
    return [*lines, f"  {_time(plan)}"]


def _fit(plan: Mapping[str, Any]) -> str:
    fitting = [stage for stage, memory in plan["stages"].items() if memory["fits"]]
    chosen = str(plan["stage"])
    if chosen in fitting:
        return f"fits, as it is with zero.stage: {chosen}"
    if fitting:
        return f"does not fit with zero.stage: {chosen}; it does with {fitting[0]}"
    smaller = [s for s, memory in plan["stages"].items() if memory["largest_micro_batch"]]
    if smaller:
        size = plan["stages"][smaller[0]]["largest_micro_batch"]
        return f"does not fit; it does with zero.stage: {smaller[0]}, micro_batch_size: {size}"
    return "does not fit; more workers at stage 3 or activation_checkpointing: true need less"


def _time(plan: Mapping[str, Any]) -> str:
    if plan["steps"] is None:
        return (
            "steps, hours and cost follow from the data; run `raymill run RECIPE --until "
            f"{plan['follows']}` first"
        )
    units = plan["hardware"]
    cost = "" if plan["cost"] is None else f", {plan['cost']:,.2f} dollars"
    return (
        f"{plan['steps']:,} steps, {plan['flops'] / 1e15:,.3g} PFLOP: {plan['hours']:.3g} hours "
        f"at {plan['mfu']:.0%} of {units['peak_tflops']:.3g} TFLOP/s a worker{cost}"
    )
