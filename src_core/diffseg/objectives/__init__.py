"""What is learned in one update, by a card's task: masks of an image, images, or the class of noised images."""

from diffseg.objectives.base import OBJECTIVES, Batch, Objective
from diffseg.objectives.classifier import ClassifierObjective
from diffseg.objectives.image import ImageObjective
from diffseg.objectives.mask import MaskObjective
from diffseg.objectives.times import Amplitudes, Times

__all__ = [
    "OBJECTIVES",
    "Amplitudes",
    "Batch",
    "ClassifierObjective",
    "ImageObjective",
    "MaskObjective",
    "Objective",
    "Times",
]
