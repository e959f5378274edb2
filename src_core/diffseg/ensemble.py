"""Ensembles of masks that grow one member at a time.

Members are kept as bits, one a voxel and foreground class; everything shown is computed from the votes, whole
numbers that do not depend on the order in which members arrived. Beyond the members themselves, memory does
not depend on their number. No torch.

Symbols: ``n`` members, ``K`` classes with 0 the background, ``*S`` the axes of the region that was sampled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffseg.errors import PlanError

Packed = NDArray[np.uint8]
Labels = NDArray[np.uint8]
Maps = NDArray[np.float32]


def pack(labels: Labels, classes: int) -> Packed:
    """Labels ``(*S)`` to bits ``(K - 1, ceil(voxels / 8))``, one row per foreground class."""
    flat = labels.reshape(-1)
    return np.stack([np.packbits(flat == k) for k in range(1, classes)])


def unpack(bits: Packed, shape: tuple[int, ...]) -> Labels:
    """The inverse of ``pack``."""
    count = int(np.prod(shape))
    labels = np.zeros(count, np.uint8)
    for k, row in enumerate(bits, start=1):
        labels[np.unpackbits(row, count=count).astype(bool)] = k
    return labels.reshape(shape)


def class_iou(a: Packed, b: Packed) -> float:
    """Mean over the foreground classes of the intersection over union; 1 for a class that both lack."""
    both = np.bitwise_count(a & b).sum(axis=1, dtype=np.int64)
    either = np.bitwise_count(a | b).sum(axis=1, dtype=np.int64)
    return float(np.where(either > 0, both / np.maximum(either, 1), 1.0).mean())


@dataclass(frozen=True, eq=False)
class Snapshot:
    """An ensemble at one moment; never changes, cheap to take.

    ``votes (K - 1, *S)`` counts the members in each foreground class; ``iou (n, n)`` holds ``class_iou`` of each
    pair; ``members`` are the packed masks in order of arrival, ``ids`` their member numbers.
    """

    classes: int
    shape: tuple[int, ...]
    votes: NDArray[np.uint16]
    iou: NDArray[np.float64]
    members: tuple[Packed, ...]
    ids: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.members)

    def member(self, index: int) -> Labels:
        """Labels ``(*S)`` of the ``index``-th member."""
        return unpack(self.members[index], self.shape)

    def mean(self, k: int) -> Maps:
        """Fraction of the members in class ``k`` (0 the background), ``(*S)`` in [0, 1]."""
        votes = self.votes[k - 1] if k > 0 else len(self) - self.votes.sum(axis=0, dtype=np.int64)
        return np.asarray(votes / len(self), dtype=np.float32)

    def means(self) -> Maps:
        """``mean`` of every class, ``(K, *S)``."""
        return np.stack([self.mean(k) for k in range(self.classes)])

    def variance(self) -> Maps:
        """Disagreement between samples: ``max_k p_k (1 - p_k)``, the variance of the members' membership of the class
        they disagree on most; ``(*S)`` in [0, 0.25]. 0 for one member.
        """
        p = self.means()
        return np.asarray((p * (1 - p)).max(axis=0))

    def entropy(self) -> Maps:
        """Entropy of the mean in nats, ``(*S)`` in [0, ln K]."""
        p = self.means()
        return np.asarray(-(p * np.log(np.where(p > 0, p, 1))).sum(axis=0))

    def consensus(self, share: float) -> Labels:
        """Voxels that at least ``share`` of the members give to one and the same foreground class, labelled by it.

        Where several classes reach the share (only below one half), the one with most votes wins, the lower
        number on a tie. 0.95 is the inner contour, 0.05 the outer one, 0.5 the majority.
        """
        # 1e-9: 0.95 * 20 must count as 19.
        enough = self.votes.max(axis=0) >= max(share * len(self) - 1e-9, 1)
        return np.asarray(np.where(enough, self.votes.argmax(axis=0) + 1, 0), dtype=np.uint8)


class Ensemble:
    """Collects members; see the module. ``snapshot`` is what everybody else sees."""

    def __init__(self, classes: int, shape: tuple[int, ...]) -> None:
        self.classes, self.shape = classes, shape
        self._votes = np.zeros((classes - 1, *shape), np.uint16)
        self._members: list[Packed] = []
        self._ids: list[int] = []
        self._iou = np.zeros((0, 0))

    def __len__(self) -> int:
        return len(self._members)

    @property
    def ids(self) -> tuple[int, ...]:
        """Numbers of the members present."""
        return tuple(self._ids)

    def add(self, labels: NDArray[Any], member: int) -> None:
        """Take in one mask: integer labels ``(*S)`` below K.

        Raises:
            PlanError: wrong shape, a label that is no class, a member already present, or more than 65535 members.
        """
        if labels.shape != self.shape or labels.max(initial=0) >= self.classes:
            raise PlanError(
                f"A member of shape {labels.shape} with labels up to {labels.max(initial=0)} does not belong to an "
                f"ensemble of shape {self.shape} with {self.classes} classes; start a new ensemble."
            )
        if member in self._ids or len(self) >= np.iinfo(np.uint16).max:
            raise PlanError(f"Member {member} is already part of the ensemble, or it is full; draw another.")
        bits = pack(labels.astype(np.uint8), self.classes)
        row = [class_iou(bits, other) for other in self._members]
        iou = np.block([[self._iou, np.array(row)[:, None]], [np.array([row]), np.ones((1, 1))]])
        votes = self._votes.copy()
        for k in range(1, self.classes):
            votes[k - 1] += labels == k
        # Only now and not in place: memory may have run out before, and snapshots share these arrays.
        self._votes, self._iou = votes, iou
        self._members.append(bits)
        self._ids.append(member)

    def snapshot(self) -> Snapshot:
        """The ensemble as it is now; later additions do not change it."""
        return Snapshot(self.classes, self.shape, self._votes, self._iou, tuple(self._members), self.ids)
