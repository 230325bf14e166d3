"""How many steps a training has, and the learning rate, as a function of how much of it is done."""

import math

from trainers.engine.training_config import Training


def steps(settings: Training, samples: int) -> int:
    """Steps of a training on so many samples an epoch; the last may take some of a further one."""
    # 1.1 x 100 is a little more than 110.
    return math.ceil(round(settings.epochs * samples / settings.batch_size, 6))


def rate(settings: Training, fraction: float, step: float) -> float:
    """The learning rate of the step that begins at `fraction` of the training.

    `step` is the share of the training that one step is, so that the first step has a rate above 0.
    """
    peak, warmup, decay = settings.learning_rate, settings.warmup, settings.decay
    if fraction < warmup:
        return peak * min(1.0, (fraction + step) / warmup)
    left = (1 - fraction) / max(1 - warmup, step)
    match settings.schedule:
        case "linear":
            return peak * left
        case "cosine":
            return peak * 0.5 * (1 - math.cos(math.pi * left))
        case "wsd":  # 1 - sqrt, the best of the shapes that Hägele et al. 2024 compare
            return peak * (1 - math.sqrt(max(0.0, fraction - (1 - decay)) / decay))
        case "constant":
            return peak
