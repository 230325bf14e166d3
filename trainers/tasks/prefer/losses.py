"""Losses of preference, of each pair by itself: (pairs,) in, (pairs,) out. Pure.

y_w is the chosen answer to a prompt x and y_l the rejected one, |y| the tokens of an answer, pi the
model that learns and pi_ref the one it began as. What a loss compares is the `score` of each answer
(`scores`): by how much the model likes it, and a pair's difference is score(y_w) - score(y_l). The
reward of an answer is beta times its score (Rafailov et al. 2023, eq. 5).
"""

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

Loss = Literal["sigmoid", "ipo", "robust", "simpo", "orpo"]


class Pairs(NamedTuple):
    """A number of either answer of each pair, (pairs,)."""

    chosen: Tensor
    rejected: Tensor

    @property
    def difference(self) -> Tensor:
        return self.chosen - self.rejected


def log_ratios(policy: Pairs, reference: Pairs) -> Pairs:
    """log pi(y | x) / pi_ref(y | x), of log-probabilities that are summed over tokens."""
    return Pairs(policy.chosen - reference.chosen, policy.rejected - reference.rejected)


def averages(sums: Pairs, tokens: Pairs) -> Pairs:
    """Sums over an answer's tokens, divided by their number."""
    return Pairs(sums.chosen / tokens.chosen, sums.rejected / tokens.rejected)


def scores(loss: Loss, policy: Pairs, reference: Pairs | None, tokens: Pairs) -> Pairs:
    """What a loss compares, of log-probabilities that are summed over tokens.

    sigmoid, robust   log pi(y | x) / pi_ref(y | x)
    ipo               the same per token: (1 / |y|) log pi(y | x) / pi_ref(y | x)
    simpo, orpo       (1 / |y|) log pi(y | x), without a reference
    """
    if loss in ("simpo", "orpo"):
        return averages(policy, tokens)
    assert reference is not None
    ratios = log_ratios(policy, reference)
    return averages(ratios, tokens) if loss == "ipo" else ratios


def sigmoid(difference: Tensor, beta: float) -> Tensor:
    """DPO (Rafailov et al. 2023, eq. 7): the Bradley-Terry likelihood that the chosen answer wins,

    - log sigma(beta h),   h = log pi(y_w | x) / pi_ref(y_w | x) - log pi(y_l | x) / pi_ref(y_l | x)
    """
    return -functional.logsigmoid(beta * difference)


def robust(difference: Tensor, beta: float, label_smoothing: float) -> Tensor:
    """Robust DPO (Chowdhury et al. 2024): unbiased where a share epsilon < 1/2 of the pairs
    is the wrong way round,

    (- (1 - epsilon) log sigma(beta h) + epsilon log sigma(- beta h)) / (1 - 2 epsilon)

    with the h of `sigmoid`.
    """
    right, flipped = sigmoid(difference, beta), sigmoid(-difference, beta)
    return ((1 - label_smoothing) * right - label_smoothing * flipped) / (1 - 2 * label_smoothing)


def ipo(difference: Tensor, beta: float) -> Tensor:
    """IPO (Azar et al. 2023, eq. 17), with tau = beta: the difference is drawn to a fixed margin
    instead of without end,

    (h - 1 / (2 tau))^2

    where h is per token: the authors' figures are of that form, though the paper does not say so
    (TRL's documentation of `ipo`, by their word).
    """
    return (difference - 1 / (2 * beta)) ** 2


def simpo(difference: Tensor, beta: float, gamma: float) -> Tensor:
    """SimPO (Meng et al. 2024, eq. 6): the average log-probability is the reward, and the chosen
    answer's is to be higher by gamma,

    - log sigma(beta / |y_w| log pi(y_w | x) - beta / |y_l| log pi(y_l | x) - gamma)
    """
    return -functional.logsigmoid(beta * difference - gamma)


def orpo(score: Pairs, beta: float) -> Tensor:
    """ORPO (Hong et al. 2024, eq. 6 and 7), with lambda = beta: the loss of supervised training on
    the chosen answer, and that its odds be higher than the rejected one's,

    - log p(y_w | x) - lambda log sigma(log odds(y_w | x) / odds(y_l | x))

    log p(y | x) = (1 / |y|) log pi(y | x)  (eq. 3),   odds = p / (1 - p)  (eq. 4)
    """
    log_odds_ratio = log_odds(score.chosen) - log_odds(score.rejected)
    return -score.chosen - beta * functional.logsigmoid(log_odds_ratio)


def log_odds(log_probability: Tensor) -> Tensor:
    """log p / (1 - p) of log p < 0, without loss of digits where p is near 1 (Maechler 2012)."""
    certain = -torch.finfo(log_probability.dtype).eps  # whose odds are infinite
    log_probability = log_probability.clamp(max=certain)
    near_one = log_probability > -math.log(2)
    # Each branch has values of its own domain alone: where() passes on the gradient of both.
    below = log_probability.masked_fill(near_one, -1.0)
    above = log_probability.masked_fill(~near_one, -0.5)
    complement = torch.where(near_one, (-torch.expm1(above)).log(), torch.log1p(-below.exp()))
    return log_probability - complement


def pair_losses(
    loss: Loss, score: Pairs, beta: float, gamma: float, label_smoothing: float
) -> Tensor:
    """The loss of each pair, by name; `gamma` is SimPO's, and `label_smoothing` robust DPO's."""
    match loss:
        case "sigmoid":
            return sigmoid(score.difference, beta)
        case "robust":
            return robust(score.difference, beta, label_smoothing)
        case "ipo":
            return ipo(score.difference, beta)
        case "simpo":
            return simpo(score.difference, beta, gamma)
        case "orpo":
            return orpo(score, beta)


def kl_per_token(ratios: Pairs, tokens: Pairs) -> Tensor:
    """How far the model is from its reference, in nats a token: half the squared log-ratio per
    token, averaged over both answers.

    (1/2) (log pi / pi_ref)^2 is Schulman's estimator k2 of the Kullback-Leibler divergence (2020,
    "Approximating KL divergence"). Here it is of the answers in the data, not of the model's own,
    and of the mean over an answer's tokens: so it is a bound from below of k2 token by token.
    """
    per_token = averages(ratios, tokens)
    return (per_token.chosen**2 + per_token.rejected**2) / 4
