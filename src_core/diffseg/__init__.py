"""Diffusion models that segment medical images: read, sample, measure, train.

The package knows arrays, tensors and millimetres. It imports neither napari nor Qt, and reading a file does
not import torch. Import what is needed from its modules, for example ``diffseg.io.read_case`` or
``diffseg.run.Run``.
"""

__version__ = "0.1.0"
