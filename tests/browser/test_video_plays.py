"""Annotated videos play in a browser, as long as their source and with its sound."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from pipeline.io.run_options import RunReport
from pipeline.synthetic.video import VideoConfig, make_frames
from pipeline.video.run import VideoOptions, run_videos
from tests.fuzz.videos import DrawnPipeline, VideoInput
from tests.unit.test_video import durations
from tests.video_files import write_video

if TYPE_CHECKING:
    from playwright.sync_api import Page

# The picture and the sound that a visitor gets.
PLAYER = """
<body style="margin:0"><video src="{name}" muted></video><script>
const video = document.querySelector('video');
const play = async seconds => {{
  await video.play(); video.pause();
  await new Promise(done => {{ video.onseeked = done; video.currentTime = seconds; }});
  return [video.duration, video.videoWidth, video.videoHeight, video.error && video.error.message,
          video.webkitAudioDecodedByteCount];
}};
</script></body>
"""


@pytest.mark.browser
def test_the_annotated_video_plays(tmp_path: Path, open_page: Callable[..., Page]) -> None:
    config = VideoConfig(24, 8, 240, 180, num_people=3, seed=5, min_person_height=0.5, standing=1)
    frames = list(make_frames(config))
    images = [frame.scene.image for frame in frames]
    clip = write_video(tmp_path / 'clip.mp4', images, fps=8, sound=3)
    report, pipeline = RunReport(0), DrawnPipeline(config)
    options = VideoOptions(tmp_path, frozenset({'overlay'}))
    run_videos(pipeline, [VideoInput(str(clip), 'clip')], options, report)
    assert report.exit_code == 0, report.failures
    (video,) = (tmp_path / 'videos' / 'clip').glob('overlay.*')
    (video.parent / 'index.html').write_text(PLAYER.format(name=video.name))
    page = open_page((video.parent / 'index.html').as_uri(), 240, 180)
    length, width, height, error, sound = page.evaluate('play(1.5)')
    assert (width, height, error) == (240, 180, None) and sound > 0
    before, after = durations(clip), durations(video)
    assert set(after) == {'video', 'audio'}
    assert length == pytest.approx(max(before.values()), abs=0.15)
    for stream in before:
        assert after[stream] == pytest.approx(before[stream], abs=0.13)
    data = np.frombuffer(page.screenshot(), np.uint8)
    shown = cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB).astype(int)
    frame = images[12].astype(int)
    people = frames[12].scene.masks.to_dense().any(0)
    difference = np.abs(shown - frame).mean(2)
    # The same frame, with drawings on the people.
    assert difference[people].mean() > 3 * difference[~people].mean()
    assert np.median(difference[~people]) < 12 and shown.std() > 10
