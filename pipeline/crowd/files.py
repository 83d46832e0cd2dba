"""Files of an analysis: tables, graph, profiles, trajectories and the summary."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..io.atomic import write_bytes, write_json, write_text
from .summary import summarize

if TYPE_CHECKING:
    import pandas

    from .analysis import CrowdAnalysis


def write_files(analysis: CrowdAnalysis, folder: Path, *, parquet: bool = False) -> list[Path]:
    """Write every file but the pictures; returns their paths.

    ``people.csv``, ``images.csv``, ``groups.csv``, ``zones.csv``, ``lines.csv``, a CSV per series
    in ``series/``, ``occlusion.json``, ``density.npz``, ``trajectories.txt`` and ``summary.json``.
    Files without content have only their header; ``density.npz`` and ``trajectories.txt`` exist
    with metres alone.
    """
    folder.mkdir(parents=True, exist_ok=True)
    people = analysis.to_dataframe()
    tables = {
        'people.csv': people, 'images.csv': analysis.images, 'groups.csv': analysis.groups,
        'zones.csv': analysis.zones, 'lines.csv': analysis.lines,
        **{f'series/{_safe(name)}.csv': table for name, table in analysis.series.items()},
    }  # fmt: skip
    for name, table in tables.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        write_text(path, _csv(table))
    if parquet:
        buffer = io.BytesIO()
        people.to_parquet(buffer, index=False)
        write_bytes(folder / 'people.parquet', buffer.getvalue())
    write_json(folder / 'occlusion.json', describe_occlusion(analysis), indent=1)
    if analysis.arrays:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **analysis.arrays)  # type: ignore[arg-type]
        write_bytes(folder / 'density.npz', buffer.getvalue())
    if analysis.trajectory is not None and (analysis.people.track_ids > 0).any():
        write_text(folder / 'trajectories.txt', format_trajectories(analysis.trajectory))
    write_json(folder / 'summary.json', summarize(analysis), indent=1)
    return sorted(path for path in folder.rglob('*') if path.is_file())


def describe_occlusion(analysis: CrowdAnalysis) -> list[dict[str, Any]]:
    """Occlusion graph per image: who hides whom, cycles, and person ids from near to far."""
    rows = []
    for image, occlusion in analysis.occlusions.items():
        graph = occlusion.graph
        rows.append({
            'image': image,
            'name': analysis.image_names[image],
            'edges': [
                {'front': front, 'behind': behind, 'hidden_fraction': data['hidden_fraction']}
                for front, behind, data in graph.edges(data=True)
            ],
            'cycles': occlusion.cycles,
            'near_to_far': (np.argsort(occlusion.depth_order) + 1).tolist(),
        })  # fmt: skip
    return rows


def format_trajectories(trajectory: Any) -> str:
    """PeTrack text in metres, which PedPy and JuPedSim read."""
    data = trajectory.data.sort_values(['id', 'frame'])
    lines = [f'# framerate: {trajectory.frame_rate:g} fps\n', '# id frame x/m y/m z/m\n']
    rows = zip(data.id, data.frame, data.x, data.y, strict=True)
    lines += [f'{i} {frame} {x:.4f} {y:.4f} 0\n' for i, frame, x, y in rows]
    return ''.join(lines)


def _csv(table: pandas.DataFrame) -> str:
    columns = [column for column in table.columns if column not in ('polygon', 'intersection')]
    text: str = table[columns].to_csv(index=False, float_format='%.6g', lineterminator='\n')
    return text


def _safe(name: str) -> str:
    return ''.join(c if c.isalnum() or c in '-_' else '_' for c in name)
