"""Long and killed runs of a drawn video, by the real code but for the models.

python -m tests.fuzz.videos memory --frames 10000
python -m tests.fuzz.videos kill --count 20 --seed 0

``memory`` compares the memory at the end of each pass, finding and drawing, with that after 500
frames. Between the passes, it grows with the length: tracks are finished, and some files group by
identity. ``kill`` ends runs by SIGKILL at random moments and resumes them: their files equal
those of a run without interruption.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from pipeline.arrays import Floats, Image
from pipeline.io.run_options import VIDEO_OUTPUTS, RunReport
from pipeline.runtime.memory import resident_bytes
from pipeline.structures import People
from pipeline.synthetic.video import VideoConfig, make_frames
from pipeline.tracking.association import AssociationTracker
from pipeline.tracking.config import TrackingConfig
from pipeline.video import overlay
from pipeline.video import run as run_module
from pipeline.video.inputs import VideoInput
from pipeline.video.process import ProcessConfig, TrackedFrame, track_frames
from pipeline.video.reader import Frame
from pipeline.video.run import VideoOptions, run_videos
from pipeline.video.store import FrameStore
from pipeline.video.writer import write_segment
from projects.studies.drawn_people import to_people

SAVE = frozenset({*VIDEO_OUTPUTS, 'overlay'})
EARLY = 500


class DrawnPipeline:
    """A pipeline that knows the people of each frame of a drawn video."""

    config_text = config_key = 'a = 1\n'
    precision, device, load_seconds = 'fp32', 'cpu', 0.0
    min_score: float | None = None
    tracking = TrackingConfig()

    def __init__(self, config: VideoConfig) -> None:
        self.config, self.weights = config, {'net': 'abc'}
        self.memory: dict[int, int] = {}  # frame -> bytes
        self.index = -1

    def track(
        self, source: Iterable[Frame], *, detect_every: int, batch_size: int, store: FrameStore
    ) -> Iterator[TrackedFrame]:
        drawn = make_frames(self.config)

        def read() -> Iterator[Frame]:
            for frame in source:
                self.index = frame.index
                yield frame

        def predict(*_: object) -> list[People]:
            self.memory[self.index] = resident_bytes()
            return [to_people(next(frame for frame in drawn if frame.index == self.index))]

        config = ProcessConfig(detect_every, batch_size)
        return track_frames(read(), predict, AssociationTracker(self.tracking), config, store)

    def predict_candidates(
        self, images: Sequence[Image], boxes: Sequence[Floats | None], timer: object = None
    ) -> Any:
        raise NotImplementedError


def draw(folder: Path, config: VideoConfig) -> VideoInput:
    """Write the video of a config."""
    path = folder / 'clip.mkv'
    write_segment(path, ((f.seconds, f.scene.image) for f in make_frames(config)), config.fps)
    return VideoInput(str(path), 'clip')


def run(pipeline: DrawnPipeline, video: VideoInput, out: Path) -> None:
    """Run with all outputs; exits with 1 after a failure."""
    report = RunReport(0)
    run_videos(pipeline, [video], VideoOptions(out, SAVE), report)
    if report.failures:
        sys.exit(report.failures[0].describe())


def measure_memory(folder: Path, num_frames: int) -> bool:
    """Print the memory early and at the end of both passes; whether they are within 5 %."""
    config = VideoConfig(num_frames, 25, 64, 48, num_people=3, noise=0)
    pipeline, drawn = DrawnPipeline(config), dict[int, int]()
    draw_people = overlay.draw_people

    def watch(*arguments: Any) -> Image:
        drawn[len(drawn)] = resident_bytes()
        return draw_people(*arguments)

    overlay.draw_people = watch
    run(pipeline, draw(folder, config), folder / 'out')
    overlay.draw_people = draw_people
    ratios = []
    for name, memory in (('finding', pipeline.memory), ('drawing', drawn)):
        early, late = memory[EARLY], memory[num_frames - 1]
        ratios.append(late / early)
        print(f'{name}: {early / 2**20:.1f} MiB after {EARLY} frames, '
              f'{late / 2**20:.1f} MiB after {num_frames}')  # fmt: skip
    between = drawn[0] - pipeline.memory[num_frames - 1]
    print(f'at most {max(ratios) - 1:.1%} more at the end of a pass; '
          f'{between / 2**20:.1f} MiB for the tracks and files of the whole video')  # fmt: skip
    return max(ratios) <= 1.05


def kill_runs(folder: Path, count: int, seed: int) -> bool:
    """Kill and resume runs until ``count`` kills are done; whether all files are equal."""
    config = VideoConfig(60, 25, 96, 72, num_people=3)
    run_module.FrameStore = partial(FrameStore, chunk_frames=4)  # type: ignore[assignment, misc]
    overlay.SEGMENT_FRAMES = 6
    video, whole, out = draw(folder, config), folder / 'whole', folder / 'out'

    def run_until(target: Path, seconds: float | None) -> bool:
        process = get_context('fork').Process(target=run, args=(pipeline, video, target))
        process.start()
        process.join(seconds)
        process.kill()  # SIGKILL; nothing if it is over
        process.join()
        assert process.exitcode in (0, -9)
        return process.exitcode != 0

    pipeline, rng, kills, runs, equal = DrawnPipeline(config), random.Random(seed), 0, 0, True
    start = time.monotonic()
    run_until(whole, None)
    seconds, left = time.monotonic() - start, set[str]()
    while kills < count:
        killed = run_until(out, rng.uniform(0, seconds))
        kills += killed
        left |= {path.parent.name for path in out.rglob('*') if path.is_file()}
        if not killed or kills == count:
            run_until(out, None)
            expected, found = contents(whole), contents(out)
            differ = [n for n in {*expected, *found} if expected.get(n) != found.get(n)]
            equal &= not differ
            print(*sorted(differ), end='')
            runs += 1
            shutil.rmtree(out)
    print(f'{kills} kills in {runs} runs of {config.num_frames} frames, seed {seed}: '
          f'{"same files" if equal else "the files differ"}')  # fmt: skip
    return equal and {'frames', 'segments'} <= left


def contents(out: Path) -> dict[str, bytes]:
    """Bytes of the files of a video."""
    folder = out / 'videos' / 'clip'
    files = (path for path in folder.rglob('*') if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a check; returns 0 if it holds."""
    parser = argparse.ArgumentParser('python -m tests.fuzz.videos', description=__doc__)
    parser.add_argument('check', choices=('memory', 'kill'))
    parser.add_argument('--frames', type=int, default=10_000)
    parser.add_argument('--count', type=int, default=20)
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        if args.check == 'memory':
            return int(not measure_memory(Path(name), args.frames))
        return int(not kill_runs(Path(name), args.count, args.seed))


if __name__ == '__main__':
    sys.exit(main())
