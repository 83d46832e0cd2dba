"""Compare all trackers on a video with ground truth, or on drawn crowds.

With VIDEO and GROUND_TRUTH (MOTChallenge text), CONFIG finds the people of every frame in one
round; its predictions are kept in OUT, so that the same command goes on after an interruption.
With --drawn, the people who are at least 20 % visible are the detections and the ground truth, and
some of the detections are left out at random.

Examples:
    python projects/studies/tools/study_tracks.py video.avi gt/gt.txt
    python projects/studies/tools/study_tracks.py --drawn 10 50 200 --missing 0 0.2

Every tracker gets the same people. Short and doubtful tracks are dropped and gaps are filled as in
`bmp run`, unless --raw is given. OUT/NAME.txt has the tracks of each tracker.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))  # this checkout, installed or not

from pipeline.arrays import Image
from pipeline.cli.options import add_runtime_options, get_overrides, handle_errors, make_parser
from pipeline.cli.score_tracks import format_table, score_files
from pipeline.structures import People
from pipeline.synthetic.video import VideoConfig, make_frames
from pipeline.tracking.formats import TrackedPeople, write_mot
from pipeline.tracking.libraries import TRACKERS, make_tracker
from pipeline.tracking.tracks import FinishConfig, TrackRows, finish_tracks
from projects.studies.drawn_people import to_people

Frames = Iterable[tuple[int, float, Image, People]]  # index, seconds, image, people
MIN_VISIBLE = 0.2
DRAWN_FPS = 12.5


def build_parser() -> argparse.ArgumentParser:
    """Command line of this tool."""
    parser = make_parser('study_tracks.py', __doc__)
    add = parser.add_argument
    add('video', nargs='?', metavar='VIDEO')
    add('ground_truth', nargs='?', type=Path, metavar='GROUND_TRUTH')
    add('--config', default='bmp_compact', metavar='CONFIG', help='default: %(default)s')
    add('--drawn', nargs='+', type=int, metavar='N', help='people in drawn videos')
    add('--missing', nargs='+', type=float, default=[0.0, 0.2], metavar='P',
        help='fraction of the detections that drawn videos lack (default: 0 0.2)')  # fmt: skip
    add('--frames', type=int, default=100, metavar='N', help='of a drawn video (default: 100)')
    add('--seed', type=int, default=7, help='of the drawn videos (default: %(default)s)')
    add('--trackers', nargs='+', choices=TRACKERS, default=TRACKERS, metavar='NAME')
    add('--max-covered', type=float, metavar='P',
        help='gaps are filled where a nearer box covers at most this fraction (default: 1; for '
        'drawn videos 0.6, because their ground truth has visible people only)')  # fmt: skip
    add('--raw', action='store_true', help='keep all tracks as they are')
    add('--out', type=Path, default=Path('outputs/study_tracks'), metavar='OUT')
    add_runtime_options(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study; returns the exit code."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if (args.video is None or args.ground_truth is None) == (args.drawn is None):
        parser.error('give VIDEO and GROUND_TRUTH, or --drawn N')
    covered = args.max_covered or (0.6 if args.drawn else 1.0)
    finish = None if args.raw else FinishConfig(max_covered=covered)
    with handle_errors('study_tracks.py'), warnings.catch_warnings():
        warnings.simplefilter('ignore', UserWarning)  # of trackers that ignore the image
        if args.drawn is None:
            frames, fps = find_people(args)
            compare(args.video, frames, fps, args.ground_truth, args.trackers, finish, args.out)
            return 0
        for number in args.drawn:
            for missing in args.missing:
                name = f'{number} people, {missing:.0%} missing'
                out = args.out / f'drawn_{number}_{missing:g}'
                frames = draw_people(number, args.frames, missing, args.seed, out / 'gt.txt')
                compare(name, frames, DRAWN_FPS, out / 'gt.txt', args.trackers, finish, out)
    return 0


def find_people(args: argparse.Namespace) -> tuple[Frames, float]:
    """Frames with the people that the pipeline finds, and their rate."""
    from pipeline.api import load_pipeline
    from pipeline.tracking.association import AssociationTracker
    from pipeline.video.process import ProcessConfig, process_video
    from pipeline.video.reader import VideoReader, open_video
    from pipeline.video.store import FrameStore

    with open_video(args.video) as container:
        fps = float(container.streams.video[0].average_rate or 25)
    options = {'loop.min_score': 0.0, 'loop.max_rounds': 1} | get_overrides(args)
    model = load_pipeline(args.config, cfg_options=options)
    store = FrameStore(args.out / f'{args.config}_{Path(args.video).stem}')
    stream = process_video(
        VideoReader(args.video), model.predict_batch, AssociationTracker(), ProcessConfig(), store
    )
    return ((f.index, f.seconds, f.image, found.people) for f, found in stream), fps


def draw_people(
    number: int, num_frames: int, missing: float, seed: int, ground_truth: Path
) -> Iterator[tuple[int, float, Image, People]]:
    """Frames of a drawn video with the detections that are not missing; writes the ground truth."""
    config = VideoConfig(
        num_frames=num_frames, fps=DRAWN_FPS, num_people=number, width=640, height=360,
        min_person_height=0.12, max_person_height=0.5 if number < 100 else 0.3, seed=seed,
    )  # fmt: skip
    rng = np.random.default_rng(seed)
    truth: list[TrackRows] = []
    for frame in make_frames(config):
        visible = frame.visible_fractions >= MIN_VISIBLE
        people = to_people(frame).select(visible)
        ids = frame.track_ids[visible]
        truth.append(TrackedPeople(frame.index, frame.seconds, people, ids).to_rows())
        kept = rng.random(len(people)) >= missing
        yield frame.index, frame.seconds, frame.scene.image, people.select(kept)
    ground_truth.parent.mkdir(parents=True, exist_ok=True)
    write_mot(ground_truth, TrackRows.join(truth))


def compare(
    title: str, frames: Frames, fps: float, ground_truth: Path, names: Sequence[str],
    finish: FinishConfig | None, out: Path,
) -> None:  # fmt: skip
    """Run all trackers side by side, and print their figures."""
    trackers = {name: make_tracker(name, fps=fps) for name in names}
    rows: dict[str, list[TrackRows]] = {name: [] for name in names}
    spent = dict.fromkeys(names, 0.0)
    indices, times = [], []
    for index, seconds, image, people in frames:
        indices.append(index)
        times.append(seconds)
        for name, tracker in trackers.items():
            start = time.perf_counter()
            ids = tracker.update(people, image, seconds)
            spent[name] += time.perf_counter() - start
            rows[name].append(TrackedPeople(index, seconds, people, ids).to_rows())
    scores = {}
    out.mkdir(parents=True, exist_ok=True)
    for name in names:
        tracks = TrackRows.join(rows[name])
        if finish is not None:
            tracks = finish_tracks(tracks, np.array(indices), np.array(times), finish)
        write_mot(out / f'{name}.txt', tracks)
        (scores[name],) = score_files(out / f'{name}.txt', ground_truth).values()
    table = format_table(scores).splitlines()
    speeds = ['ms/frame', *(f'{1000 * spent[n] / max(len(times), 1):.1f}' for n in names)]
    print(f'\n{title}, {len(times)} frames')
    print('\n'.join(f'{line}{speed:>10}' for line, speed in zip(table, speeds, strict=True)))


if __name__ == '__main__':
    sys.exit(main())
