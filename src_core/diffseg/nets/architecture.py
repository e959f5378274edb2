"""The registry of network architectures; an entry is a module class with a ``Config`` dataclass.

A mask network is called as ``network(x, t, image)``: ``x (B, K, *S)`` the noisy mask, ``t (B,)`` the time it
is told, ``image (B, C, *S)``. One with a method ``encode(image)`` may be given what that returned instead of the
image: an object with ``expand(batch)``, made once per case.
"""

from __future__ import annotations

from diffseg.registry import Registry

ARCHITECTURES: Registry[type] = Registry("architecture")
