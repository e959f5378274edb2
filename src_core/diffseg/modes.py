"""Modes: the few distinct answers among the members of an ensemble, each with its frequency.

No torch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from diffseg.ensemble import Snapshot

# Members are one mode while their average distance 1 - IoU stays below this.
MODE_DISTANCE = 0.3


@dataclass(frozen=True)
class Mode:
    """One distinct answer. ``medoid`` is the position in the snapshot of the member nearest to all others of the mode.

    ``frequency`` is its share of the members, in (0, 1]. ``volume_ml`` is the foreground of the medoid,
    ``class_volume_ml`` the same for each foreground class. An ``empty`` mode found nothing.
    """

    index: int
    members: tuple[int, ...]
    frequency: float
    medoid: int
    volume_ml: float
    class_volume_ml: tuple[float, ...]

    @property
    def empty(self) -> bool:
        """Whether its representative mask is empty."""
        return self.volume_ml == 0


def find_modes(snapshot: Snapshot, voxel_ml: float, distance: float = MODE_DISTANCE) -> tuple[Mode, ...]:
    """Modes, the most frequent first (ties: the one with the earliest member).

    Average-linkage clustering of the distances ``1 - class_iou``, cut at ``distance``. No members: no modes.
    """
    if len(snapshot) == 0:
        return ()
    d = 1 - snapshot.iou
    if len(snapshot) == 1:
        groups = np.ones(1, int)
    else:
        groups = fcluster(linkage(squareform(d, checks=False), "average"), distance, "distance")
    clusters = sorted((np.flatnonzero(groups == g) for g in set(groups)), key=lambda c: (-len(c), c[0]))
    return tuple(_mode(i, c, d, snapshot, voxel_ml) for i, c in enumerate(clusters, start=1))


def _mode(index: int, cluster: np.ndarray, d: np.ndarray, snapshot: Snapshot, voxel_ml: float) -> Mode:
    medoid = int(cluster[d[np.ix_(cluster, cluster)].sum(axis=1).argmin()])
    counts = np.bitwise_count(snapshot.members[medoid]).sum(axis=1, dtype=np.int64)
    volumes = tuple(float(c * voxel_ml) for c in counts)
    members = tuple(int(m) for m in cluster)
    return Mode(index, members, len(cluster) / len(snapshot), medoid, sum(volumes), volumes)
