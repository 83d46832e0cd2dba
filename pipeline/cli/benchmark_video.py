"""Measure videos: frames a second, and the time of each stage.

The whole is `bmp run VIDEO --save mot overlay`: threads read, draw and write beside the models. A
second run does everything in sequence and gives the processor time of each stage, which other
programs change less than the wall time.
Without VIDEO, a crowd of 6 people is drawn: 768 x 576, 10 frames a second.

Examples:
    bmp benchmark video
    bmp benchmark video clip.mp4 --detect-every 1 2 4 --end 20
    bmp benchmark video video.avi --ground-truth gt/gt.txt --cfg-options loop.max_rounds=1
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from .options import add_cfg_options, handle_errors, make_parser, parse_cfg_options, parse_positive

if TYPE_CHECKING:
    from ..api import LoadedPipeline
    from ..benchmark import CpuTimer
    from ..video.reader import FrameSelection

PROG = 'bmp benchmark video'
WHOLE = 'whole, overlapped'
Measurement = dict[str, Any]


def build_parser() -> argparse.ArgumentParser:
    """Build the command line."""
    parser = make_parser(PROG, __doc__)
    add = parser.add_argument
    add('video', nargs='?', metavar='VIDEO')
    add('--config', default='bmp_compact', help='name in configs/ or file (default: %(default)s)')
    add('--detect-every', type=parse_positive, nargs='+', default=[1, 2], metavar='N',
        help='the detector runs on every n-th frame (default: 1 2)')  # fmt: skip
    add('--end', type=float, metavar='SECONDS', help='measure the start of the video only')
    add('--ground-truth', type=Path, metavar='FILE', help='MOTChallenge text of the whole video')
    add('--device', default='cpu', help='cpu, cuda, cuda:1, ... (default: %(default)s)')
    add('--threads', type=parse_positive, help='threads of PyTorch (default: unchanged)')
    add('--json', type=Path, metavar='FILE', help='also write the measurements to this file')
    add_cfg_options(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print a table for each ``--detect-every``."""
    args = build_parser().parse_args(argv)
    with handle_errors(PROG, failed=2), TemporaryDirectory() as folder:
        import torch

        from ..api import load_pipeline
        from ..benchmark import machine
        from ..io.atomic import write_json
        from ..video.reader import FrameSelection

        if args.threads:
            torch.set_num_threads(args.threads)
        selection = FrameSelection(end=args.end)
        model = load_pipeline(args.config, args.device, None, parse_cfg_options(args.cfg_options))
        video = args.video or str(_draw(Path(folder, 'drawn')))
        for _ in model.track(video, end=0.5):  # warm-up
            pass
        runs = []
        for every in args.detect_every:
            out = Path(folder, str(every))
            runs.append(_measure(model, video, selection, every, out))
            if args.ground_truth:
                runs[-1]['tracks'] = _score(out, args.ground_truth)
            print(to_markdown(runs[-1]))
        if args.json:
            write_json(args.json, {'config': args.config, **machine(), 'runs': runs}, indent=2)
    return 0


def _draw(folder: Path) -> Path:
    from ..synthetic.video import VideoConfig
    from .make_synthetic_video import write_video

    config = VideoConfig(100, 10, 768, 576, num_people=6, min_person_height=0.12,
                         max_person_height=0.25)  # fmt: skip
    return write_video(config, folder)


def _measure(
    model: LoadedPipeline, video: str, selection: FrameSelection, every: int, out: Path
) -> Measurement:
    from ..benchmark import CpuTimer
    from ..io.run_options import RunReport
    from ..video.inputs import VideoInput
    from ..video.results import TrackedVideo
    from ..video.run import VideoOptions, run_videos
    from ..video.store import FrameStore

    timer = CpuTimer()
    options = VideoOptions(out, frozenset({'mot', 'overlay'}), selection, detect_every=every)
    with timer(WHOLE):
        report = RunReport(0)
        run_videos(model, [VideoInput(video, 'video')], options, report)
    if report.failures:
        raise ValueError(report.failures[0].describe())
    _time_stages(model, video, options, out / 'stages', timer)
    stored = FrameStore(out / 'videos' / 'video' / 'frames')
    results = TrackedVideo.read(stored, 'video', model.tracking.finish)
    frames = results.size.num_frames
    return {
        'detect_every': every,
        'frames': frames,
        'people': len(results.rows) / frames,
        'fps': frames / timer.seconds[WHOLE],
        'stages': {
            name: {
                'wall_ms': 1000 * timer.seconds[name] / frames,
                'cpu_ms': 1000 * timer.cpu[name] / frames,
            }
            for name in timer.seconds
        },
    }


def _time_stages(
    model: LoadedPipeline, video: str, options: Any, out: Path, timer: CpuTimer
) -> None:
    """Do the work of `bmp run` without threads of our own."""
    from ..video.overlay import write_overlay
    from ..video.reader import Frame, VideoReader
    from ..video.results import TrackedVideo
    from ..video.store import FrameStore

    class TimedReader(VideoReader):
        def __iter__(self) -> Iterator[Frame]:
            frames = super().__iter__()
            while True:
                with timer('read'):
                    frame = next(frames, None)
                if frame is None:
                    return
                yield frame

    reader = TimedReader(video, options.selection, ahead=0)
    store = FrameStore(out)
    for _ in model.track(reader, detect_every=options.detect_every, store=store, timer=timer):
        pass
    before = [dict(timer.seconds), dict(timer.cpu)]
    start = time.perf_counter(), time.process_time()
    results = TrackedVideo.read(store, 'video', model.tracking.finish)
    write_overlay(out, results, reader, options.style, options.trail, timer)
    end = time.perf_counter(), time.process_time()
    for spent, old, t0, t1 in zip((timer.seconds, timer.cpu), before, start, end, strict=True):
        drawn = spent['draw'] + spent['read'] - old['read']
        spent['write'] = t1 - t0 - drawn


def _score(out: Path, ground_truth: Path) -> dict[str, Any]:
    from dataclasses import asdict

    from .score_tracks import score_files

    (scores,) = score_files(out / 'videos' / 'video' / 'mot.txt', ground_truth).values()
    return asdict(scores)


def to_markdown(run: Measurement) -> str:
    """A line about the run, and its table; shares are of the processor time of all stages."""
    from ..benchmark import markdown_table

    stages = run['stages']
    total = sum(stage['cpu_ms'] for name, stage in stages.items() if name != WHOLE)
    rows = [
        [
            name,
            f'{stage["wall_ms"]:.1f}',
            f'{stage["cpu_ms"]:.1f}',
            '' if name == WHOLE else f'{stage["cpu_ms"] / total:.0%}',
        ]
        for name, stage in stages.items()
    ]
    line = (
        f'--detect-every {run["detect_every"]}: {run["frames"]} frames, {run["people"]:.1f} people '
        f'a frame, {run["fps"]:.2f} frames a second'
    )
    if 'tracks' in run:
        tracks = run['tracks']
        line += f'; MOTA {tracks["mota"]:.3f}, IDF1 {tracks["idf1"]:.3f}'
        line += f', {tracks["switches"]} switches'
    table = markdown_table(['stage', 'wall, ms a frame', 'CPU, ms a frame', 'share'], rows)
    return f'{line}\n\n{table}\n'
