"""The journal of the mask that is being corrected: when it begins, what it tells, when it may go. No Qt.

Methods are for the GUI thread and return at once; ``diffseg.keeper`` writes. What was drawn and not saved stays on disk
when the viewer is closed, and is offered at the next start; what was saved, or never drawn on, goes. A panel that is
closed leaves no callback behind, but the layer can be drawn on as long as it lives: until then the thread looks at it
by itself.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict

import numpy as np

from diffseg.errors import JournalError
from diffseg.journal import LABELS, JournalHead, JournalState, Plane
from diffseg.keeper import Claim, Keeper, claim
from diffseg.records import to_json
from napari_diffseg.mask_edit import ORIGINS, machine_of
from napari_diffseg.mask_starts import source_words
from napari_diffseg.masks import files_of
from napari_diffseg.runs import live
from napari_diffseg.session import Session
from napari_diffseg.state import MaskState

# What the mask began as, what models and tools made of that, and by which kind of edit.
START, MACHINE, KINDS = "start", "machine", "kinds"
PLANES = (LABELS, START, MACHINE, KINDS)


class Journaling:
    """One per session; see the module."""

    def __init__(self, session: Session) -> None:
        self.session = session
        # A journal that goes once the next one is on disk.
        self.replaces: Claim | None = None
        self.trouble = ""
        # The layer on which the mask is drawn, told by the viewer.
        self.layer: Callable[[], object | None] = lambda: None
        self._keeper: Keeper | None = None
        self._planes: Planes | None = None
        self._held: list[Keeper] = []

    @property
    def running(self) -> bool:
        """Whether a mask is being followed."""
        return self._keeper is not None

    def follow(self) -> None:
        """The mask of the session changed, or is another one."""
        mask, planes = self.session.mask, self._planes
        if planes is not None and (mask is None or not planes.fits(mask)):
            self._leave()
        if mask is None:
            return
        if self._keeper is None or self._planes is None:
            self._begin(mask)
        else:
            self._planes.mask = mask
            self._keeper.touch(state_of(self.session, mask))

    def touch(self) -> None:
        """Something was drawn, or the person looks elsewhere."""
        mask = self.session.mask
        if self._keeper is not None and mask is not None:
            self._keeper.touch(state_of(self.session, mask))

    def close(self) -> None:
        """The last panel is closed: finish what is to be kept, and leave it to the next start."""
        keeper, planes, layer = self._keeper, self._planes, self.layer()
        self._keeper = None
        if keeper is not None and planes is not None:
            keep = planes.mask.edited and planes.mask.dirty
            if layer is not None:
                # It can still be drawn on, and nobody listens.
                keeper.watch(planes.mask.labels, Planes(planes.mask), keep, layer)
            else:
                keeper.close(keep)
            # Should the panel be opened again beside the same mask, its journal goes on.
            planes.left = keeper if keep or layer is not None else None
        for held in self._held:
            held.release()
        self._held.clear()
        if self.replaces is not None:
            self.replaces.release()
            self.replaces = None

    def strayed(self, mask: MaskState) -> bool:
        """Whether ``mask``, of which nothing was unsaved when the last panel was closed, was drawn on since."""
        left = self._planes.left if self._planes is not None and self._planes.fits(mask) else None
        if left is None:
            return False
        left.close(keep=True)
        return left.strayed

    def _begin(self, mask: MaskState) -> None:
        left = self._planes.left if self._planes is not None else None
        if left is not None:
            left.close(keep=True)
        if left is not None and left.path is not None and self.replaces is None:
            try:
                self.replaces = claim(left.path)
            except JournalError:
                self.replaces = None
        self._planes = Planes(mask)
        before, self.replaces = self.replaces, None
        head = head_of(self.session, mask)
        self._keeper = Keeper(head, self._planes, state_of(self.session, mask), self._tell, before)

    def _leave(self) -> None:
        """Another mask takes the place: what was drawn on this one stays, for the case that the program is killed."""
        keeper, planes = self._keeper, self._planes
        self._keeper = self._planes = None
        if planes is not None and planes.left is not None:
            planes.left.close(keep=True, timeout_s=0.0)
        if keeper is not None and planes is not None:
            keep = planes.mask.edited and planes.mask.dirty
            keeper.close(keep, timeout_s=0.0, hold=True)
            self._held += [keeper] if keep else []

    def _tell(self, sentence: str) -> None:
        self.trouble = sentence


class Planes:
    """What the keeper asks for, in its thread: those planes that may have changed."""

    def __init__(self, mask: MaskState) -> None:
        self.mask = mask
        self.left: Keeper | None = None
        self._edits: tuple[object, ...] | None = None

    def fits(self, mask: MaskState) -> bool:
        """Whether this is still the same mask, which may lie in another array now."""
        return mask.start is self.mask.start and (mask.start is not None or mask.labels is self.mask.labels)

    def __call__(self) -> Mapping[str, Plane]:
        mask = self.mask
        planes: dict[str, Plane] = {LABELS: mask.labels}
        if mask.start is not None and self._edits is not mask.edits:
            planes |= {START: mask.start, MACHINE: machine_of(mask), KINDS: kinds_in(mask)}
            self._edits = mask.edits
        return planes


def journaling(session: Session) -> Journaling:
    """The journal of a session."""
    held = live(session)
    if held.journal is None:
        held.journal = Journaling(session)
    return held.journal


def kinds_in(mask: MaskState) -> Plane:
    """By which kind of edit each voxel was last written that no person wrote: ``ORIGINS``, 0 for none."""
    kinds = np.zeros(mask.labels.shape, np.uint8)
    flat = kinds.reshape(-1)
    for edit in mask.edits:
        if edit.in_effect:
            flat[edit.where] = ORIGINS[edit.kind]
    return kinds


def head_of(session: Session, mask: MaskState) -> JournalHead:
    """What the mask is drawn on; no text of a header and no name of a layer."""
    case, files = mask.case, session.files or tuple(files_of(mask.case))
    return JournalHead(
        shape=mask.labels.shape,
        planes=PLANES if mask.start is not None else (LABELS,),
        files=tuple(str(path.resolve()) for path in files),
        raters=tuple(str(path.resolve()) for path in session.rater_files),
        channels=case.channels if files else (),
        affine=tuple(float(v) for v in case.grid.affine.reshape(-1)),
        source=source_words(mask.begun, mask.source),
        start=None if mask.begun is None else asdict(mask.begun),
        plan=None if mask.plan is None else json.loads(to_json(mask.plan)),
        model=None if session.model_path is None else str(session.model_path.resolve()),
        began=time.time(),
    )


def state_of(session: Session, mask: MaskState) -> JournalState:
    """Where the person is now."""
    voxel = None if session.view is None else session.view.centre_voxel()
    return JournalState(
        voxel=None if voxel is None else tuple(float(round(v)) for v in voxel),
        view=session.plane,
        mode=session.mode,
        settings=asdict(session.settings),
        roi=None if session.roi is None else str(session.roi),
        selected=mask.selected,
        edited=mask.edited,
        dirty=mask.dirty,
        saved=None if mask.path is None else str(mask.path),
    )
