"""Training losses, one file per family: masks, weights over noise levels, the variational bound."""

from diffseg.losses.bound import Transitions, bound_bits, hybrid
from diffseg.losses.masks import MASK_LOSSES, cross_entropy, dice_loss, dice_per_class, focal
from diffseg.losses.weights import WEIGHTINGS, Weighting, level_weights, log_snr_slope

__all__ = [
    "MASK_LOSSES",
    "WEIGHTINGS",
    "Transitions",
    "Weighting",
    "bound_bits",
    "cross_entropy",
    "dice_loss",
    "dice_per_class",
    "focal",
    "hybrid",
    "level_weights",
    "log_snr_slope",
]
