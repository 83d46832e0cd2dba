"""What the report says about the whole run: settings, times, scores and videos."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..evaluation.comparison import ImageQuality
from ..evaluation.metrics import TASK_NAMES
from ..tracking.config import FinishConfig
from ..video.overlay import OVERLAY
from ..video.results import SUMMARY, TRACKS, TrackedVideo
from ..video.run import FRAMES
from ..video.store import FrameStore
from ..visualization.palette import identity_colours
from .sources import RunFolder, Scored
from .write import ReportOptions, readable

OVERLAPS = {'bbox': 'IoU of boxes', 'segm': 'IoU of masks', 'keypoints': 'OKS of keypoints'}
MAX_POINTS = 200  # of a trail


def describe_run(run: RunFolder) -> dict[str, Any]:
    """Facts of ``run.json``: title, table, times and configuration."""
    info = run.info
    facts = [
        (name, info[key])
        for name, key in (
            ('command', 'command'), ('config', 'config'), ('device', 'device'),
            ('precision', 'precision'), ('started', 'started'), ('ended', 'ended'),
            ('commit', 'commit'),
        )
        if info.get(key)
    ]  # fmt: skip
    facts += [(f'weights of {k}', v) for k, v in dict(info.get('weights_sha256') or {}).items()]
    versions = dict(info.get('versions') or {})
    facts.append(('versions', ', '.join(f'{k} {v}' for k, v in versions.items() if v)))
    seconds = dict(info.get('seconds') or {})
    return {
        'title': f'Report of {readable(run.folder.resolve().name)}',
        'facts': [[name, readable(_text(value))] for name, value in facts],
        'stages': [
            [readable(k), float(v)] for k, v in seconds.items() if isinstance(v, int | float)
        ],
        'config': run.config,
    }


def describe_scores(scored: Scored, min_score: float) -> dict[str, Any]:
    """The table of scores, of one or two sides."""
    rows: list[tuple[str, float | None, float | None]]
    if scored.comparison is None:
        metrics = scored.sides[0].metrics.tasks[scored.task]
        rows = [(name, getattr(metrics, name), None) for name in ('ap', 'ap50', 'ap75', 'ar')]
        every = list(scored.qualities[0].values())
        rows += [
            ('mean quality', float(np.mean([q.quality for q in every])) if every else 0.0, None),
            *((name, _total(every, name), None) for name in ('found', 'false')),
        ]
    else:
        rows = [(name, a, b) for name, (a, b) in scored.comparison.totals().items()]
    left_out = f' Results scored below {min_score:g} are left out.' if min_score else ''
    return {
        'name': TASK_NAMES[scored.task],
        'rows': rows,
        'text': 'Quality of an image = 2 × (sum of the overlaps of the people found) / (people + '
        f'results). The overlap is the {OVERLAPS[scored.task]}, at least 0.5 for a match. Crowd '
        'regions, people without annotations of the task, and results on them do not count.'
        + left_out,
    }


def describe_videos(folder: Path, options: ReportOptions) -> Iterator[dict[str, Any]]:
    """Tracks of the videos of a run that are complete."""
    for summary in sorted((folder / 'videos').glob(f'*/{SUMMARY}')):
        facts = json.loads(summary.read_bytes())
        video = TrackedVideo.read(FrameStore(summary.parent / FRAMES), summary.parent.name,
                                  _finish(summary.parent))  # fmt: skip
        rows, size = video.rows, video.size
        with (summary.parent / TRACKS).open(newline='') as stream:
            table = {int(row['track_id']): row for row in csv.DictReader(stream)}
        tracks = []
        for track in np.unique(rows.track_ids).tolist():
            part, row = rows.select(rows.track_ids == track), table.get(track, {})
            boxes = part.boxes[:: max(1, len(part) // MAX_POINTS)]
            feet = np.stack([(boxes[:, 0] + boxes[:, 2]) / 2, boxes[:, 3]], axis=1).round(1)
            colour = identity_colours(np.array([track]))[0].tolist()
            tracks.append({
                'id': track, 'first': int(part.frames[0]), 'last': int(part.frames[-1]),
                'seconds': row.get('seconds', ''), 'detections': row.get('detections', ''),
                'score': row.get('mean_score', ''), 'path': feet.ravel().tolist(),
                'colour': '#{:02x}{:02x}{:02x}'.format(*colour),
            })  # fmt: skip
        files = [summary.parent / f'{OVERLAY}{suffix}' for suffix in ('.mp4', '.webm')]
        overlay = next((file for file in files if file.is_file()), None)
        relative = None
        if overlay is not None and not options.single:
            relative = Path(os.path.relpath(overlay, options.out)).as_posix()
        yield {
            'name': readable(size.name), 'width': size.width, 'height': size.height,
            'first': int(video.frames[0]), 'last': int(video.frames[-1]), 'tracks': tracks,
            'overlay': relative, 'facts': [[k, readable(_text(v))] for k, v in facts.items()],
        }  # fmt: skip


def _finish(folder: Path) -> FinishConfig:
    """How the run finished the tracks of a video."""
    try:
        tracked = json.loads((folder / 'settings.json').read_bytes())['tracked_with']
        return FinishConfig(**tracked['finish'])
    except (OSError, KeyError, TypeError, ValueError):
        return FinishConfig()


def _total(qualities: list[ImageQuality], name: str) -> int:
    return sum(int(getattr(quality, name)) for quality in qualities)


def _text(value: Any) -> str:
    return ' '.join(map(str, value)) if isinstance(value, list) else str(value)
