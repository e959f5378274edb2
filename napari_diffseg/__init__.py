"""napari plugin over ``diffseg``: watch a diffusion model segment a scan, and correct the mask that is kept.

The manifest ``napari.yaml`` points straight at the modules, so that importing this package stays cheap.
"""

from diffseg import __version__

__all__ = ["__version__"]
