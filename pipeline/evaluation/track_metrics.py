"""HOTA, MOTA, IDF1 of tracks, by `trackers` of Roboflow, whose figures equal TrackEval's.

The similarity of two people is the IoU of their boxes or masks, or the OKS of their poses, so one
function serves MOTChallenge, MOTS and PoseTrack.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from ..values import install_hint


@dataclass(frozen=True, eq=False)
class FrameMatch:
    """Identities of one frame.

    Attributes:
        true_ids: (G,) of the ground truth.
        ids: (N,) of the result.
        similarity: (G, N) in [0, 1].
    """

    true_ids: npt.NDArray[np.int64]
    ids: npt.NDArray[np.int64]
    similarity: npt.NDArray[np.float64]


@dataclass(frozen=True)
class TrackScores:
    """Figures of one sequence.

    Attributes:
        hota: mean over thresholds of .05 to .95, arXiv 2009.07736.
        deta: its detection part.
        assa: its association part.
        mota: arXiv 1603.00831, at the threshold.
        idf1: arXiv 1609.01775, at the threshold.
        switches: number of identity switches.
        fragments: number of interrupted tracks.
        misses: people without a match.
        false_positives: results without a match.
    """

    hota: float
    deta: float
    assa: float
    mota: float
    idf1: float
    switches: int
    fragments: int
    misses: int
    false_positives: int

    def __str__(self) -> str:
        names = [f.name for f in fields(self)]
        values = [f'{v:.3f}' if isinstance(v, float) else str(v) for v in vars(self).values()]
        return '  '.join(f'{name} {value}' for name, value in zip(names, values, strict=True))


def score_tracks(frames: Sequence[FrameMatch], threshold: float = 0.5) -> TrackScores:
    """Score the tracks of one sequence.

    Args:
        frames: every frame of the sequence, in order.
        threshold: minimal similarity of a match, for all figures but HOTA's.

    Raises:
        ImportError: The package `trackers` is absent.
    """
    try:
        from trackers.eval.clear import compute_clear_metrics
        from trackers.eval.hota import compute_hota_metrics
        from trackers.eval.identity import compute_identity_metrics
    except ImportError as error:
        raise ImportError(
            f'scores of tracks need the package trackers; install it: {install_hint("tracking")}'
        ) from error
    arrays = (
        _number([f.true_ids for f in frames]),
        _number([f.ids for f in frames]),
        [np.asarray(f.similarity, np.float64) for f in frames],
    )
    clear = compute_clear_metrics(*arrays, threshold)
    identity = compute_identity_metrics(*arrays, threshold)
    hota = compute_hota_metrics(*arrays)
    return TrackScores(
        float(hota['HOTA']), float(hota['DetA']), float(hota['AssA']), float(clear['MOTA']),
        float(identity['IDF1']), int(clear['IDSW']), int(clear['Frag']), int(clear['CLR_FN']),
        int(clear['CLR_FP']),
    )  # fmt: skip


def _number(ids: list[npt.NDArray[np.int64]]) -> list[npt.NDArray[np.int64]]:
    """Ids from 0 without gaps, as the metrics index tables with them."""
    known = np.unique(np.concatenate([*ids, np.zeros(0, np.int64)]))
    return [np.searchsorted(known, row) for row in ids]
