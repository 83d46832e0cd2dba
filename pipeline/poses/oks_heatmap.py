"""The codec of PMPose: OKS maps as targets; arg max or expected OKS for decoding.

Legend: K keypoints, heatmaps of W x H px, points in px of the network input unless stated
    otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from mmpose.codecs.base import BaseKeypointCodec
from mmpose.codecs.utils import get_heatmap_maximum, refine_keypoints_dark_udp
from mmpose.registry import KEYPOINT_CODECS
from numpy.typing import NDArray

from pipeline.keypoint_sets import sigmas_of

Array = NDArray[np.float64]

# The heatmap area stands in for the person area: one crop shows one person, padded by 1.25.
CROP_PADDING = 1.25
SMALLEST_SPREAD, LARGEST_SPREAD = 0.55, 3.0
# Maps with a lower peak belong to points far outside and are not rescaled.
FAINTEST_PEAK = 1e-3


def oks_spreads(sigmas: Sequence[float], heatmap_size: tuple[int, int]) -> Array:
    """s_k = clip(2 (2 sigma_k)^2 sqrt(H W) / 1.25, 0.55, 3), the variance of keypoint k's OKS.

    Args:
        sigmas: COCO sigmas, K of them.
        heatmap_size: (W, H).

    Returns:
        Shape (K,), heatmap px squared.
    """
    width, height = heatmap_size
    spreads = 2 * (2 * np.asarray(sigmas, np.float64)) ** 2 * np.sqrt(height * width)
    clipped: Array = np.clip(spreads / CROP_PADDING, SMALLEST_SPREAD, LARGEST_SPREAD)
    return clipped


def oks_kernels(centres: Array, spreads: Array, length: int) -> Array:
    """exp(-(i - c)^2 / (2 s)) along one axis: OKS is the product of two of them.

    Args:
        centres: (K, M), places along the axis, heatmap px.
        spreads: (K,), s_k.
        length: px of the axis.

    Returns:
        Shape (K, M, length).
    """
    distance = np.arange(length) - centres[..., None]
    kernels: Array = np.exp(-(distance**2) / (2 * spreads[:, None, None]))
    return kernels


def oks_maps(points: Array, spreads: Array, heatmap_size: tuple[int, int]) -> Array:
    """Compute the OKS of every px with every keypoint.

    Args:
        points: (K, 2), x, y in heatmap px; may lie outside.
        spreads: (K,), s_k.
        heatmap_size: (W, H).

    Returns:
        Shape (K, H, W); peaks above 1e-3 are scaled to 1, to compensate for points between px.
    """
    width, height = heatmap_size
    columns = oks_kernels(points[:, :1], spreads, width)
    rows = oks_kernels(points[:, 1:], spreads, height)
    maps: Array = rows.transpose(0, 2, 1) * columns
    peaks = maps.max(axis=(1, 2), keepdims=True)
    maps /= np.where(peaks > FAINTEST_PEAK, peaks, 1.0)
    return maps


def expected_oks(heatmaps: NDArray[np.floating], spreads: Array) -> Array:
    """Compute the expected OKS at every px, with the heatmap as probability of the location.

    E_k(p) = sum over q of P_k(q) exp(-|p - q|^2 / (2 s_k)), with P_k the heatmap divided by its
    sum (ProbPose, arXiv 2412.02254). The kernel is that of the training targets.

    Args:
        heatmaps: (K, H, W); negative values count as 0.
        spreads: (K,), s_k.

    Returns:
        Shape (K, H, W), in [0, 1]; 0 for an empty map.
    """
    count, height, width = heatmaps.shape
    positive = np.maximum(heatmaps.astype(np.float64), 0)
    mass = positive.sum(axis=(1, 2), keepdims=True)
    probability = positive / np.where(mass > 0, mass, 1.0)
    rows = oks_kernels(np.tile(np.arange(height), (count, 1)), spreads, height)
    columns = oks_kernels(np.tile(np.arange(width), (count, 1)), spreads, width)
    expected: Array = rows @ probability @ columns
    return expected


def refine_peaks(maps: Array, peaks: NDArray[np.integer]) -> Array:
    """Refine maxima to sub-pixel positions: one Newton step on the logarithm of each map.

    The step is exact for a Gaussian. It is limited to half a px per axis; a peak at the border
    moves along the border only.

    Args:
        maps: (K, H, W), positive around the peaks.
        peaks: (K, 2), x, y of the maxima.

    Returns:
        Shape (K, 2), x, y in heatmap px.
    """
    height, width = maps.shape[1:]
    refined = peaks.astype(np.float64)
    for k, (x, y) in enumerate(peaks.tolist()):
        across, down = 0 < x < width - 1, 0 < y < height - 1
        columns, rows = (
            [max(x - 1, 0), x, min(x + 1, width - 1)],
            [max(y - 1, 0), y, min(y + 1, height - 1)],
        )
        log = np.log(np.maximum(maps[k][np.ix_(rows, columns)], 1e-300))
        gradient = np.array([log[1, 2] - log[1, 0], log[2, 1] - log[0, 1]]) / 2 * [across, down]
        xx = log[1, 2] - 2 * log[1, 1] + log[1, 0]
        yy = log[2, 1] - 2 * log[1, 1] + log[0, 1]
        xy = (log[2, 2] - log[2, 0] - log[0, 2] + log[0, 0]) / 4 * (across and down)
        hessian = np.array([[xx if across else -1, xy], [xy, yy if down else -1]])
        if hessian[0, 0] < 0 and np.linalg.det(hessian) > 0:
            refined[k] -= np.clip(np.linalg.solve(hessian, gradient), -0.5, 0.5)
    return refined


@KEYPOINT_CODECS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class OKSArgMaxHeatmap(BaseKeypointCodec):  # type: ignore[misc,unused-ignore]
    """Targets are maps of the OKS that a prediction at each px would reach.

    `encode` equals the released codec, which lacks sigmas for 21 and 23 keypoints. `decode` is the
    released arg max with DARK-UDP refinement, or the expected OKS of the paper, which may prefer a
    broad hill to a sharp peak.

    Args:
        input_size: (width, height) of the network input in px.
        heatmap_size: (W, H) in px.
        sigma: Unused; accepted for released configs.
        blur_kernel_size: Kernel size of DARK's blur, heatmap px.
        sigmas: COCO sigmas, one per keypoint; None: those of the convention with K points.
        decode: 'argmax' (released) or 'expected_oks'.

    Raises:
        ValueError: `decode` is unknown.
    """

    auxiliary_encode_keys = frozenset({'keypoints_visibility'})
    label_mapping_table = {  # noqa: RUF012 (MMPose's interface)
        'keypoint_weights': 'keypoint_weights',
        'keypoints_annotated': 'keypoints_annotated',
        'keypoints_in_image': 'keypoints_in_image',
        'keypoints_visibility': 'keypoints_visibility',
    }
    field_mapping_table = {'heatmaps': 'heatmaps'}  # noqa: RUF012

    def __init__(
        self,
        input_size: tuple[int, int],
        heatmap_size: tuple[int, int],
        sigma: float = -1,
        *,
        blur_kernel_size: int = 11,
        sigmas: Sequence[float] | None = None,
        decode: Literal['argmax', 'expected_oks'] = 'argmax',
    ) -> None:
        super().__init__()
        if decode not in ('argmax', 'expected_oks'):
            raise ValueError(f'decode = {decode!r}; allowed: argmax, expected_oks')
        self.input_size = (input_size[0], input_size[1])
        self.heatmap_size = (heatmap_size[0], heatmap_size[1])
        self.sigma = sigma
        self.blur_kernel_size = blur_kernel_size
        self.sigmas = sigmas
        self.decoding = decode
        self.scale_factor = (np.array(input_size) - 1) / (np.array(heatmap_size) - 1)

    def _spreads(self, num_keypoints: int) -> Array:
        sigmas = sigmas_of(num_keypoints) if self.sigmas is None else self.sigmas
        if len(sigmas) != num_keypoints:
            raise ValueError(f'{len(sigmas)} sigmas for {num_keypoints} keypoints')
        return oks_spreads(sigmas, self.heatmap_size)

    def encode(
        self,
        keypoints: NDArray[np.floating],
        keypoints_visible: NDArray[np.floating] | None = None,
        keypoints_visibility: NDArray[np.floating] | None = None,
    ) -> dict[str, Any]:
        """Encode the targets of one person.

        Args:
            keypoints: (1, K, 2), x, y.
            keypoints_visible: (1, K), above 0 where a point is labelled; None: everywhere.
                Where it keeps COCO's levels, 2 means visible.
            keypoints_visibility: (1, K), 1 where a point is visible; None: where
                `keypoints_visible` is 2.

        Returns:
            `heatmaps` (K, H, W) float32, and four float32 arrays (1, K): `keypoint_weights` (0
            where not labelled, or so far outside that the map is 0), `keypoints_annotated`,
            `keypoints_in_image` and `keypoints_visibility`.

        Raises:
            ValueError: more than one person.
        """
        if len(keypoints) != 1:
            raise ValueError(f'{type(self).__name__} encodes one person, got {len(keypoints)}')
        points = keypoints[0, :, :2]
        levels = np.ones(len(points)) if keypoints_visible is None else keypoints_visible[0]
        visible = levels > 1 if keypoints_visibility is None else keypoints_visibility[0]
        annotated = levels > 0
        spreads = self._spreads(len(points))
        maps = oks_maps(points / self.scale_factor, spreads, self.heatmap_size)
        maps[~annotated] = 0
        inside = np.all((points >= 0) & (points < np.array(self.input_size)), axis=1)
        flags = {
            'keypoint_weights': annotated & (maps.max(axis=(1, 2)) > 0),
            'keypoints_annotated': annotated,
            'keypoints_in_image': inside,
            'keypoints_visibility': visible,
        }
        rows = {name: row[None].astype(np.float32) for name, row in flags.items()}
        return {'heatmaps': maps.astype(np.float32), **rows}

    def decode(
        self, encoded: NDArray[np.floating]
    ) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """Decode the keypoints of one person.

        Args:
            encoded: heatmaps (K, H, W).

        Returns:
            Keypoints (1, K, 2), x, y, and scores (1, K): the heatmap peak or the expected OKS; 0
            for an empty map.
        """
        if self.decoding == 'argmax':
            peaks, scores = get_heatmap_maximum(encoded)
            points = self._refined_by_dark(peaks, encoded, empty=scores <= 0)
        else:
            maps = expected_oks(encoded, self._spreads(len(encoded)))
            index = maps.reshape(len(maps), -1).argmax(axis=1)
            peaks = np.stack([index % maps.shape[2], index // maps.shape[2]], axis=1)
            points, scores = refine_peaks(maps, peaks), maps.max(axis=(1, 2))
        keypoints = points[None] / (np.array(self.heatmap_size) - 1) * self.input_size
        return keypoints, scores[None].astype(np.float32)

    def _refined_by_dark(
        self, peaks: NDArray[np.floating], heatmaps: NDArray[np.floating], empty: NDArray[np.bool_]
    ) -> NDArray[np.floating]:
        """Refine peaks (K, 2); those of empty maps stay at -1, -1 (MMPose returns NaN)."""
        maps, points = heatmaps.copy(), peaks[None].copy()
        maps[empty], points[:, empty] = 1, 1
        refined = refine_keypoints_dark_udp(points, maps, self.blur_kernel_size)[0]
        return np.where(empty[:, None], peaks, refined)
