"""Pictures of an analysis, as PNG."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..structures import Image

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .analysis import CrowdAnalysis

HEAT_CELLS = 48  # of the longer side of a heat map over an image
DPI = 110


def draw_figures(
    analysis: CrowdAnalysis, folder: Path, images: dict[int, Image] | None = None
) -> list[Path]:
    """Draw every figure that the analysis has data for; returns their paths.

    Args:
        analysis: analysis.
        folder: created.
        images: RGB images by number, for drawings over them; the first has the heat map of all.
    """
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    jobs: dict[str, Callable[[Axes], bool]] = {
        'top_view': lambda ax: _draw_top_view(ax, analysis),
        'density_map': lambda ax: _draw_profile(ax, analysis, 'density_per_m2'),
        'speed_map': lambda ax: _draw_profile(ax, analysis, 'speed_m_per_s'),
        'n_t': lambda ax: _draw_n_t(ax, analysis),
        'density_over_time': lambda ax: _draw_density(ax, analysis),
        'people_over_time': lambda ax: _draw_counts(ax, analysis),
        'fundamental_diagram': lambda ax: _draw_diagram(ax, analysis),
        'distances': lambda ax: _draw_distances(ax, analysis),
        'pair_distribution': lambda ax: _draw_pairs(ax, analysis),
    }
    shown = images or {}
    for number in shown:
        jobs[f'occlusion_{number:06d}'] = (
            lambda ax, n=number: _draw_occlusion(ax, analysis, n, shown[n])  # type: ignore[misc]
        )
    if shown:
        first = next(iter(shown.values()))
        jobs['heat_map'] = lambda ax: _draw_heat(ax, analysis, first)
    paths = []
    for name, draw in jobs.items():
        figure = Figure(figsize=(6.4, 4.4), layout='constrained')
        if draw(figure.add_subplot()):
            paths.append(folder / f'{name}.png')
            figure.savefig(paths[-1], dpi=DPI)
    return paths


def _draw_top_view(ax: Axes, analysis: CrowdAnalysis) -> bool:
    table = analysis.people
    known = np.isfinite(table.ground_m).all(1)
    if not known.any():
        return False
    tracked = known & (table.track_ids > 0)
    for track in np.unique(table.track_ids[tracked]).tolist():
        rows = np.flatnonzero(tracked & (table.track_ids == track))
        ax.plot(*table.ground_m[rows].T, linewidth=1)
        ax.plot(*table.ground_m[rows[-1]], 'k.', markersize=3)
    if not tracked.any():
        ax.plot(*table.ground_m[known].T, 'o', markersize=4)
    for region in analysis.regions:
        if region.unit == 'm':
            points = region.points
            if region.kind != 'line':
                points = np.concatenate([points, points[:1]])
            ax.plot(*points.T, 'k--', linewidth=1)
            ax.annotate(region.name, tuple(points[0]), fontsize=8)
    ax.set(xlabel='x in m', ylabel='y in m', aspect='equal', title='Top view')
    return True


def _draw_profile(ax: Axes, analysis: CrowdAnalysis, name: str) -> bool:
    values = analysis.arrays.get(name)
    if values is None or not np.isfinite(values).any():
        return False
    x1, y1, x2, y2 = analysis.arrays['bounds_m']
    picture = ax.imshow(values, extent=(x1, x2, y1, y2), cmap='viridis')
    unit = 'people per m²' if name == 'density_per_m2' else 'm/s'
    ax.figure.colorbar(picture, ax=ax, label=unit)
    title = 'Mean Voronoi density' if name == 'density_per_m2' else 'Mean speed'
    ax.set(xlabel='x in m', ylabel='y in m', title=title)
    return True


def _draw_n_t(ax: Axes, analysis: CrowdAnalysis) -> bool:
    names = [name for name in analysis.series if name.startswith('nt_')]
    for name in names:
        table = analysis.series[name]
        ax.step(table.time_s, table.cumulative_people, where='post', label=name[3:])
    ax.set(xlabel='time in s', ylabel='people who crossed', title='N-t')
    ax.legend() if names else None
    return bool(names)


def _draw_density(ax: Axes, analysis: CrowdAnalysis) -> bool:
    names = [n for n, t in analysis.series.items() if n.startswith('density_') and len(t) > 1]
    for name in names:
        table = analysis.series[name]
        (line,) = ax.plot(table.time_s, table.voronoi_density_per_m2, label=f'{name[8:]}, Voronoi')
        ax.plot(
            table.time_s, table.classic_density_per_m2, ':', color=line.get_color(),
            label=f'{name[8:]}, classic',
        )  # fmt: skip
    ax.set(xlabel='time in s', ylabel='people per m²', title='Density', ylim=(0, None))
    ax.legend(fontsize=8) if names else None
    return bool(names)


def _draw_counts(ax: Axes, analysis: CrowdAnalysis) -> bool:
    table = analysis.images
    if len(table) < 2:
        return False
    timed = np.isfinite(table.seconds).all()
    x = table.seconds if timed else table.image
    ax.step(x, table.people, where='mid')
    ax.set(xlabel='time in s' if timed else 'image', ylabel='people', ylim=(0, None),
           title='People per image')  # fmt: skip
    return True


def _draw_diagram(ax: Axes, analysis: CrowdAnalysis) -> bool:
    drawn = False
    for name, table in analysis.series.items():
        if name.startswith('density_') and 'mean_speed_m_per_s' in table:
            ax.plot(table.voronoi_density_per_m2, table.mean_speed_m_per_s, '.', label=name[8:])
            drawn = True
    ax.set(xlabel='Voronoi density, people per m²', ylabel='mean speed in m/s',
           title='Fundamental diagram')  # fmt: skip
    ax.legend() if drawn else None
    return drawn


def _draw_distances(ax: Axes, analysis: CrowdAnalysis) -> bool:
    from .groups import DISTANCES

    if 'nearest_m' not in analysis.per_person:
        return False
    nearest = analysis.per_person['nearest_m'].to_numpy()
    nearest = nearest[np.isfinite(nearest)]
    if not len(nearest):
        return False
    ax.hist(np.minimum(nearest, 6), np.arange(0, 6.2, 0.2).tolist())
    for name, end in DISTANCES[:-1]:
        ax.axvline(end, color='k', linestyle=':', linewidth=1)
        ax.annotate(name, (end, 1), xycoords=('data', 'axes fraction'), fontsize=8,
                    rotation=90, ha='right', va='top')  # fmt: skip
    ax.set(xlabel='distance to the nearest person in m (6: or more)', ylabel='people',
           title='Distances')  # fmt: skip
    return True


def _draw_pairs(ax: Axes, analysis: CrowdAnalysis) -> bool:
    radius = analysis.arrays.get('pairs_radius_m')
    if radius is None or not len(radius):
        return False
    ax.plot(radius, analysis.arrays['pairs_g'])
    ax.axhline(1, color='k', linestyle=':', linewidth=1)
    ax.set(xlabel='distance in m', ylabel='g (1: at random)', xlim=(0, 6),
           title='Pair distribution')  # fmt: skip
    return True


def _draw_occlusion(ax: Axes, analysis: CrowdAnalysis, number: int, image: Image) -> bool:
    """Arrows from the person in front to the hidden one, over the image."""
    occlusion = analysis.occlusions.get(number)
    if occlusion is None:
        return False
    rows = analysis.people.select(analysis.people.images == number)
    boxes = rows.boxes
    tops = np.stack([boxes[:, [0, 2]].mean(1), boxes[:, 1] * 0.75 + boxes[:, 3] * 0.25], axis=1)
    # Rows are in the order of the person ids, from 1.
    ax.imshow(image, alpha=0.75)
    for front, behind in occlusion.graph.edges:
        ax.annotate(
            '', xy=tuple(tops[behind - 1]), xytext=tuple(tops[front - 1]),
            arrowprops={'arrowstyle': '->', 'color': 'crimson', 'lw': 1.2},
        )  # fmt: skip
    colors = occlusion.depth_order / max(len(rows) - 1, 1)
    if len(rows):
        points = ax.scatter(
            tops[:, 0], tops[:, 1], c=colors, cmap='viridis_r', s=24, edgecolors='white'
        )
        ax.figure.colorbar(points, ax=ax, label='depth order (0 near, 1 far)', shrink=0.8)
    ax.set(xticks=[], yticks=[], title='Who hides whom')
    return True


def _draw_heat(ax: Axes, analysis: CrowdAnalysis, image: Image) -> bool:
    """Where people stand, over the image: ground points of all images."""
    import cv2

    points = analysis.people.ground_px
    points = points[np.isfinite(points).all(1)]
    height, width = image.shape[:2]
    if not len(points) or analysis.shape != (height, width):
        return False
    cell = max(height, width) / HEAT_CELLS
    size = round(height / cell), round(width / cell)
    heat, _, _ = np.histogram2d(points[:, 1], points[:, 0], size, [[0, height], [0, width]])
    number = max(len(analysis.images), 1)
    blurred = cv2.GaussianBlur(heat / number, (0, 0), 1.2)
    smooth: npt.NDArray[Any] = cv2.resize(blurred, (width, height), interpolation=cv2.INTER_LINEAR)
    ax.imshow(image)
    strength = np.clip(smooth / max(float(smooth.max()), 1e-9), 0, 1)
    picture = ax.imshow(smooth, cmap='inferno', alpha=0.15 + 0.6 * strength)
    ax.figure.colorbar(picture, ax=ax, label='people per cell and image', shrink=0.8)
    ax.set(xticks=[], yticks=[], title='Where people stand')
    return True
