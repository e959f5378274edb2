"""Where the reference numbers lie: values that the public implementations gave on recorded inputs.

They are not part of the repository. DIFFSEG_GOLDEN names a folder of the same layout; else it is ``golden`` in the
shared folder. Tests say in their files which arrays they hold against which of our functions.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("DIFFSEG_SHARED", REPOSITORY.parent / "shared"))
GOLDEN = Path(os.environ.get("DIFFSEG_GOLDEN", SHARED / "golden"))


def found(*patterns: str) -> list[Any]:
    """Parameters for every file that matches, named by its path; one skipped parameter if there is none."""
    paths = sorted({path for pattern in patterns for path in GOLDEN.glob(pattern)})
    if paths:
        return [pytest.param(path, id=str(path.relative_to(GOLDEN))) for path in paths]
    reason = f"there is no {' or '.join(patterns)} in {GOLDEN}; set DIFFSEG_GOLDEN to use others"
    return [pytest.param(None, marks=pytest.mark.skip(reason=reason), id="absent")]


def arrays(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays of an ``.npz`` file."""
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def tensors(path: Path) -> dict[str, torch.Tensor]:
    """The same as float32 tensors where they are real numbers; text is left out."""
    named = {name: torch.as_tensor(a) for name, a in arrays(path).items() if a.dtype.kind in "fiub"}
    return {name: t.float() if t.is_floating_point() else t for name, t in named.items()}


def flags(path: Path) -> dict[str, Any]:
    """The settings that belong to ``steps_<tag>...npz`` or ``traj_<tag>_...npz``."""
    named = path.with_name("_".join(["flags", *path.stem.split("_")[1:2]]) + ".json")
    values: dict[str, Any] = json.loads((named if named.exists() else path.with_name("flags.json")).read_text())
    return values
