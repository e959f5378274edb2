"""The models and sample scans that ship with the package, found by name.

They lie in `sample_data/`: at the top of a checkout (an editable install reads them there), and inside the
package once it is installed from a wheel. Samples are rows of `sample_data/index.toml`; every file
`sample_data/models/<name>.safetensors` is a shipped model. Looking things up neither imports torch nor opens
a scan.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffseg.errors import CaseError, CheckpointError, DiffsegError
from diffseg.grid import Box

MODEL_SUFFIX = ".safetensors"


@dataclass(frozen=True)
class SampleScan:
    """One sample: its image files (`paths`, one per channel, same grid) and what to run on them.

    `raters` are files with people's masks on the same grid, none where nobody drew any.
    `roi` is the region to start with, in display order (z, y, x) and voxels of the scan; None stands for the
    whole scan.
    """

    name: str
    title: str
    description: str
    paths: tuple[Path, ...]
    raters: tuple[Path, ...]
    channels: tuple[str, ...]
    model: str
    roi: Box | None
    licence: str


def data_folder() -> Path:
    """The folder `sample_data` of this installation; DiffsegError when it is missing."""
    package = Path(__file__).resolve().parent
    for folder in (package / "sample_data", package.parents[1] / "sample_data"):
        if (folder / "index.toml").is_file():
            return folder
    raise DiffsegError(
        f"The sample data of this installation is missing beside {package}; install napari-diffseg again."
    )


def shipped_models() -> dict[str, Path]:
    """File of each shipped model by its name, in alphabetical order; empty when none ships."""
    return {path.stem: path for path in sorted((data_folder() / "models").glob(f"*{MODEL_SUFFIX}"))}


def sample_scans() -> dict[str, SampleScan]:
    """The sample scans by name, in the order of the index."""
    folder = data_folder()
    rows = tomllib.loads((folder / "index.toml").read_text(encoding="utf-8")).get("scan", [])
    return {row["name"]: _sample_scan(row, folder) for row in rows}


def find_sample(name: str) -> SampleScan:
    """The sample scan of that name; CaseError naming the known ones when there is none."""
    scans = sample_scans()
    if name not in scans:
        raise CaseError(f"There is no sample scan {name!r}; the samples are: {', '.join(scans)}.")
    return scans[name]


def find_model(name_or_path: str | Path) -> Path:
    """The model file meant by the name of a shipped model or by a path; the file is not opened.

    A shipped name wins over a file of the same name in the current folder; write `./name` for the latter.
    CheckpointError when there is neither, or when the path is a folder.
    """
    models = shipped_models()
    if str(name_or_path) in models:
        return models[str(name_or_path)]
    path = Path(name_or_path).expanduser()
    if path.is_file():
        return path
    known = ", ".join(models) or "none"
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder; give a {MODEL_SUFFIX} file or a shipped model ({known}).")
    raise CheckpointError(
        f"{str(name_or_path)!r} is neither a model file nor the name of a shipped model ({known}); "
        "check the spelling or the path."
    )


def _sample_scan(row: Mapping[str, Any], folder: Path) -> SampleScan:
    roi = row.get("roi")
    return SampleScan(
        name=row["name"],
        title=row["title"],
        description=row["description"],
        paths=tuple(folder / name for name in row["images"]),
        raters=tuple(folder / name for name in row.get("raters", ())),
        channels=tuple(row["channels"]),
        model=row["model"],
        roi=None if roi is None else Box.parse(roi),
        licence=row["licence"],
    )
