"""Layouts of a data folder: where the images and the raters' masks of a case lie. No torch.

``nifti``, all files of a case on one grid::

    images/<case>.nii.gz            the image, or one file per channel of the model:
    images/<case>/<channel>.nii.gz
    labels/<case>.nii.gz            one rater's label map, or any number of raters':
    labels/<case>/<rater>.nii.gz

``lidc``, as published with LIDC-IDRI slices (Rahman et al. 2023): folders in folders, each innermost one a 2D case
whose name is its path::

    <patient>/<case>/image_<any>.jpg
    <patient>/<case>/label0_.jpg    the first rater's mask, 0 and 255; label1_.jpg the second's, and so on

with .jpg, .jpeg or .png. Either may have ``labels.csv`` at the top, columns case,label: the image-level class of cases.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

from diffseg.errors import CaseError
from diffseg.registry import Registry

SUFFIX = ".nii.gz"
_IMAGE = re.compile(r"image_.*\.(jpe?g|png)", re.IGNORECASE)
_LABEL = re.compile(r"label(\d+)_.*\.(jpe?g|png)", re.IGNORECASE)


class Layout(Protocol):
    """Finds the files of the cases in a folder; nothing is opened."""

    def __init__(self, folder: Path) -> None: ...

    @property
    def folder(self) -> Path:
        """The data folder."""
        ...

    def names(self) -> list[str]:
        """All cases to learn from or to score, sorted; raises ``CaseError`` if there are none."""
        ...

    def images(self, name: str, channels: Sequence[str]) -> tuple[Path, ...]:
        """The image files of a case, one per channel in this order; raises ``CaseError`` naming a missing one."""
        ...

    def channels(self, name: str) -> tuple[str, ...]:
        """Names of the channels of a case, as far as its files have any; else one name."""
        ...

    def raters(self, name: str) -> tuple[Path, ...]:
        """The masks of a case, one per rater, in the order of their names; raises ``CaseError`` for none."""
        ...

    @staticmethod
    def recognises(folder: Path) -> bool:
        """Whether the folder looks like this layout."""
        ...


LAYOUTS: Registry[type[Layout]] = Registry("data layout")


def find_layout(folder: Path) -> Layout:
    """The layout of a data folder.

    Raises:
        CaseError: no such folder, or none of the layouts; says what was found and what each layout looks like.
    """
    if not folder.is_dir():
        raise CaseError(f"There is no data folder at {folder}; check the path.")
    for name in LAYOUTS:
        if LAYOUTS[name].recognises(folder):
            return LAYOUTS[name](folder)
    found = sorted(p.name + "/" * p.is_dir() for p in islice(folder.iterdir(), 1000))
    shown = ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")
    known = ", or ".join(LAYOUTS.help(name) for name in LAYOUTS)
    raise CaseError(f"{folder} holds {shown or 'nothing'}, but a data folder has {known}; rearrange the files.")


@LAYOUTS.add("nifti", f"images/<case>{SUFFIX} and labels/<case>{SUFFIX} (or labels/<case>/<rater>{SUFFIX})")
@dataclass(frozen=True)
class NiftiLayout:
    """See the module."""

    folder: Path

    @staticmethod
    def recognises(folder: Path) -> bool:
        """By the folder ``images`` with a NIfTI file in it or one level below."""
        images = folder / "images"
        return next(images.glob(f"*{SUFFIX}"), None) is not None or next(images.glob(f"*/*{SUFFIX}"), None) is not None

    def names(self) -> list[str]:
        """See ``Layout``."""
        labels = self.folder / "labels"
        found = labels.iterdir() if labels.is_dir() else ()
        names = sorted(p.name.removesuffix(SUFFIX) for p in found if p.is_dir() or p.name.endswith(SUFFIX))
        if not names:
            raise CaseError(f"{labels} holds no {SUFFIX} files; put the masks there, under the names of the images.")
        return names

    def channels(self, name: str) -> tuple[str, ...]:
        """See ``Layout``."""
        parts = self.folder / "images" / name
        if not parts.is_dir():
            return ("image",)
        return tuple(sorted(p.name.removesuffix(SUFFIX) for p in parts.iterdir() if p.name.endswith(SUFFIX)))

    def images(self, name: str, channels: Sequence[str]) -> tuple[Path, ...]:
        """See ``Layout``."""
        whole, parts = self.folder / "images" / f"{name}{SUFFIX}", self.folder / "images" / name
        if not parts.is_dir():
            if not whole.is_file():
                raise CaseError(f"{name} is to be used, but {whole} is missing; put the file there or edit the split.")
            return (whole,)
        if whole.exists():
            raise CaseError(f"{name} has both {whole} and the folder {parts}; keep one of them.")
        paths = tuple(parts / f"{channel}{SUFFIX}" for channel in channels)
        for path in paths:
            if not path.is_file():
                raise CaseError(
                    f"The channel files of {name} are to be named after the model's channels, but {path} is missing."
                )
        return paths

    def raters(self, name: str) -> tuple[Path, ...]:
        """See ``Layout``."""
        labels = self.folder / "labels"
        whole, parts = labels / f"{name}{SUFFIX}", labels / name
        if parts.is_dir():
            raters = tuple(sorted(p for p in parts.iterdir() if p.name.endswith(SUFFIX)))
            if whole.exists():
                raise CaseError(f"{name} has both {whole} and the folder {parts}; put all raters into the folder.")
            if not raters:
                raise CaseError(f"{parts} holds no {SUFFIX} files; put one label file per rater into it.")
            return raters
        if whole.is_file():
            return (whole,)
        beside = sorted(p.name for p in labels.glob(f"{name}_*{SUFFIX}"))
        hint = f" ({beside[0]} lies beside it: put the files of several raters into {parts})" if beside else ""
        raise CaseError(f"{name} is to be used, but {whole} is missing{hint}; put the file there or edit the split.")


@LAYOUTS.add("lidc", "a folder per case with image_<n>.jpg and label0_.jpg, label1_.jpg, … (or .png), one per rater")
@dataclass(frozen=True)
class LidcLayout:
    """See the module."""

    folder: Path

    @staticmethod
    def recognises(folder: Path) -> bool:
        """By the first image of the tree."""
        return next(_image_folders(folder), None) is not None

    def names(self) -> list[str]:
        """See ``Layout``."""
        return sorted(path.relative_to(self.folder).as_posix() for path in _image_folders(self.folder))

    def channels(self, name: str) -> tuple[str, ...]:
        """See ``Layout``."""
        return ("image",)

    def images(self, name: str, channels: Sequence[str]) -> tuple[Path, ...]:
        """See ``Layout``."""
        images = [file for file in self._files(name) if _IMAGE.fullmatch(file)]
        if len(images) != 1:
            raise CaseError(
                f"{self.folder / name} holds {len(images)} files called image_<n>.jpg or .png, but a case has one; "
                "correct the folder."
            )
        return (self.folder / name / images[0],)

    def raters(self, name: str) -> tuple[Path, ...]:
        """See ``Layout``."""
        numbered = sorted((int(m[1]), file) for file in self._files(name) if (m := _LABEL.fullmatch(file)))
        if not numbered or [number for number, _ in numbered] != list(range(len(numbered))):
            found = ", ".join(file for _, file in numbered) or "no label files"
            raise CaseError(
                f"{self.folder / name} holds {found}, but the masks of a case are label0_.jpg, label1_.jpg, … (or "
                ".png), one per rater; correct the folder."
            )
        return tuple(self.folder / name / file for _, file in numbered)

    def _files(self, name: str) -> list[str]:
        try:
            return os.listdir(self.folder / name)
        except OSError:
            raise CaseError(
                f"{name} is to be used, but there is no folder {self.folder / name}; put it there or edit the split."
            ) from None


def _image_folders(folder: Path) -> Iterator[Path]:
    """Folders below ``folder`` that hold an ``image_*`` file, in the order of their names."""
    for path, folders, files in os.walk(folder):
        folders.sort()
        if path != str(folder) and any(_IMAGE.fullmatch(file) for file in files):
            yield Path(path)
