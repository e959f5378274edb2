"""Where an image shows a class, learned from image-level labels alone; importing this registers all methods.

A saliency map is a hint, never a mask: it comes from models that have not seen one.
"""

from diffseg.saliency import cam, cdm, reconstruction
from diffseg.saliency.method import SALIENCY, Models, Question, SaliencyMethod, SaliencyStep
from diffseg.saliency.otsu import THRESHOLDS, Cut

__all__ = [
    "SALIENCY",
    "THRESHOLDS",
    "Cut",
    "Models",
    "Question",
    "SaliencyMethod",
    "SaliencyStep",
    "cam",
    "cdm",
    "reconstruction",
]
