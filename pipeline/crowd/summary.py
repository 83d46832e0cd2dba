"""``summary.json``: the main figures of a crowd, with their units and definitions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from . import figures, groups, scores
from .attributes import GroundSource

if TYPE_CHECKING:
    from .analysis import CrowdAnalysis

FORMAT = 'bbox-mask-pose-crowd/1'
DEFINITIONS = {
    'people': 'people found in an image; interval: Poisson bootstrap over people, 95 %',
    'ground_source': 'what a ground point comes from; see docs/user_guide/crowd.md',
    'visible_fraction': 'part of the body inside the image that no other person hides (ours)',
    'crowd_index': 'mean of joints of others in a box over own joints (CrowdPose, '
    'arXiv 1812.00324)',
    'density_per_height2': 'people per squared body height within one body height of a person, '
    'in the image (ours)',
    'classic_density_per_m2': 'people in an area over its size',
    'voronoi_density_per_m2': 'one over the area of a cell, by area; cut-off '
    f'{figures.CUT_OFF_M} m (Steffen, Seyfried 2010, doi 10.1016/j.physa.2009.12.015)',
    'gaussian_density_per_m2': 'sum of exp(-d2/R2)/(pi R2), R = '
    f'{figures.GAUSS_RADIUS_M} m, the person included (Johansson, Helbing 2008, arXiv 0810.4590)',
    'pressure_per_s2': 'Gaussian density times the variance of the velocities with the same '
    'weights (ours, after Helbing et al. 2007)',
    'speed_m_per_s': 'displacement over the frames before and after (PedPy, individual speed)',
    'level': "Fruin's levels as tabulated in EPJ Data Science 2012, Table 1",
    'walking': f'{groups.GroupConfig()} (ours)',
    'formation': 'people who stand and face one point 0.75 m ahead (ours, after Setti et al. 2015, '
    'doi 10.1371/journal.pone.0123783)',
}


def summarize(analysis: CrowdAnalysis) -> dict[str, Any]:
    """The main figures; NaN becomes None, and nothing in metres exists without a camera."""
    people, images = analysis.people, analysis.images
    counts = images['people'].to_numpy(float) if len(images) else np.zeros(0)
    low, high = scores.bootstrap_mean(counts) if len(counts) > 1 else (np.nan, np.nan)
    if len(counts) == 1:
        low, high = scores.bootstrap_count(int(counts[0]))
    sources = {
        GroundSource(s).name.lower(): int((people.ground_sources == s).sum())
        for s in np.unique(people.ground_sources).tolist()
    }
    frame, camera = analysis.per_person, analysis.camera
    result: dict[str, Any] = {
        'format': FORMAT,
        'images': len(images),
        'people': len(people),
        'tracks': len(np.unique(people.track_ids[people.track_ids > 0])),
        'people_per_image': {
            'mean': _number(counts), 'low': low, 'high': high,
            'max': int(counts.max(initial=0)),
        },
        'ground_source': sources,
        'mean_visible_fraction': _number(people.visible_fraction),
        'occlusion_pairs': sum(int(o.hides.sum()) for o in analysis.occlusions.values()),
        'camera': None,
        'zones': _records(analysis.zones),
        'lines': _records(analysis.lines),
        'walking_groups': int((analysis.groups['kind'] == 'walking').sum()),
        'formations': int((analysis.groups['kind'] == 'formation').sum()),
        'warnings': list(analysis.warnings),
        'definitions': DEFINITIONS,
    }  # fmt: skip
    if camera is not None:
        result['camera'] = {
            'description': camera.description, 'approximate': camera.approximate,
            'spread': camera.spread, 'notes': list(camera.notes),
        }  # fmt: skip
    for name in frame.columns:
        values = frame[name].to_numpy(float)
        low, high = scores.bootstrap_mean(values, resamples=500)
        result[name] = {
            'median': _number(values, np.median), 'mean': _number(values), 'low': low,
            'high': high, 'max': _number(values, np.max),
        }  # fmt: skip
    if 'nearest_m' in frame:
        result['nearest_by_hall_distance'] = groups.name_distances(frame['nearest_m'].to_numpy())
    clean: dict[str, Any] = _without_nan(result)
    return clean


def _number(values: Any, how: Any = np.mean) -> float:
    known = np.asarray(values, np.float64)
    known = known[np.isfinite(known)]
    return float(how(known)) if len(known) else float('nan')


def _records(table: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = table.to_dict('records')
    return rows


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_nan(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_without_nan(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value
