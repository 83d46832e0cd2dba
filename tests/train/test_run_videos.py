"""The embedded models follow people through a drawn video, by command and in Python."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image

from pipeline import load_pipeline
from pipeline.io.run_options import VIDEO_OUTPUTS
from pipeline.synthetic.video import VideoConfig, make_frames
from pipeline.tracking.formats import read_mot
from pipeline.video.reader import VideoReader
from pipeline.video.store import FrameStore
from tests.video_files import write_video

ROOT = Path(__file__).parents[2]
CONFIG = VideoConfig(
    num_frames=12, fps=8, num_people=2, width=192, height=144, seed=4, standing=0, leaving=0,
    min_person_height=0.6, max_person_height=0.8,
)  # fmt: skip


def test_the_command_and_the_generator_agree(tmp_path: Path) -> None:
    images = [frame.scene.image for frame in make_frames(CONFIG)]
    clip = write_video(tmp_path / 'clip.mp4', images, fps=8, sound=1.5)
    (tmp_path / 'frames').mkdir()
    for i, image in enumerate(images[:2]):
        PIL.Image.fromarray(image).save(tmp_path / 'frames' / f'{i}.png')
    still, out = tmp_path / 'frames' / '0.png', tmp_path / 'out'
    settings = ('finish.min_detections=2', 'high_score=0.4')
    options = ['--save', 'coco', 'overlay', *VIDEO_OUTPUTS, '--detect-every', '2', '--out-dir']
    tool = ROOT / 'tools' / 'run_bmp.py'
    command: list[str | Path] = [sys.executable, tool, clip, still, *options, out]
    command += ['--device', 'cpu', '--cfg-options', *(f'tracking.{text}' for text in settings)]
    command += ['--frames', tmp_path / 'frames', '--fps', '8']
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert 'clip.mp4: 12 frames' in done.stdout and 'frames: 2 frames' in done.stdout
    assert json.loads((out / 'run.json').read_text())['photos'] == 1
    folder = out / 'videos' / 'clip'
    rows = read_mot(folder / 'mot.txt', fps=8)
    assert len(rows) >= 8 and rows.frames.max() >= 10
    (overlay,) = folder.glob('overlay.*')
    assert len(list(VideoReader(overlay))) == 12
    model = load_pipeline(device='cpu', tracking__high_score=0.4)
    stored = list(FrameStore(folder / 'frames').frames())
    for frame, before in zip(model.track(clip, detect_every=2, end=1), stored, strict=False):
        people, ids = before.tracked
        assert (frame.index, frame.track_ids.tolist()) == (before.index, ids.tolist())
        np.testing.assert_array_equal(frame.people.boxes, people.boxes)
        assert frame.people.masks.to_rle() == people.masks.to_rle()
        np.testing.assert_array_equal(frame.people.plot(), frame.people.draw(frame.image))
    assert frame.index == 7
