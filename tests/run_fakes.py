"""A pipeline without models, random people, and helpers for tests of runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from pipeline.candidates import Candidates
from pipeline.io.inputs import find_images
from pipeline.io.run import run_images
from pipeline.io.run_options import OUTPUTS, RunOptions, RunReport
from pipeline.masks import Masks
from pipeline.runtime.timing import StageTimer
from pipeline.structures import Detections, People

IMAGES = {'1.jpg': 50, '1.png': 60, 'a/1.jpg': 70, 'b/1.jpg': 80}
OUTPUT_NAMES = {'1.jpg': '1.jpg', '1.png': '1.png', 'a/1.jpg': 'a/1', 'b/1.jpg': 'b/1'}


def make_people(number: int, height: int = 40, width: int = 60, seed: int = 0) -> People:
    """Make ``number`` people with random float32 numbers and disjoint masks."""
    rng = np.random.default_rng(seed)
    owners = rng.integers(0, number + 1, (height, width))
    # Detector masks overlap, and one of them is empty.
    detected = [(rng.random((height, width)) > 0.5) & (i > 0) for i in range(number)]

    def unit(*shape: int) -> np.ndarray:
        return rng.random((number, *shape), np.float32)

    corners = np.sort(rng.random((number, 2, 2)), axis=1) * [width, height]
    boxes = corners.reshape(number, 4).astype(np.float32)
    prompts = np.where(np.arange(17) < 3, rng.permutation(17), -1).astype(np.int32)
    return People(
        boxes=boxes,
        box_scores=unit(),
        detector_masks=Masks.from_dense(detected, (height, width)),
        keypoints=unit(17, 2) * np.float32(1 / 3) * width,
        keypoint_scores=unit(17),
        presence=unit(17),
        visibility=unit(17),
        masks=Masks.from_dense([owners == i + 1 for i in range(number)], (height, width)),
        mask_scores=unit(),
        mask_sources=rng.integers(0, 3, number).astype(np.int32),
        prompts=prompts[None].repeat(number, 0),
        detector_boxes=boxes / 3,
        rounds=rng.integers(1, 3, number).astype(np.int32),
        scores=unit(),
    )


class FakePipeline:
    """Predicts three random people per image and records its calls."""

    def __init__(self, config_text: str = 'a = 1\n', seconds: float = 0.0) -> None:
        self.config_text = config_text
        self.weights = {'net': 'abc'}
        self.device = 'cpu'
        self.precision = 'fp32'
        self.note = 'a note'
        self.load_seconds = 0.5
        self.seconds = seconds
        self.min_score: float | None = None
        self.calls: list[np.ndarray] = []
        self.boxes: list[Detections | None] = []
        self.batches: list[int] = []

    @property
    def config_key(self) -> str:
        return self.config_text

    def predict_candidates(
        self, images: Sequence[np.ndarray], boxes: Sequence[Any], timer: StageTimer | None = None
    ) -> list[Candidates]:
        self.batches.append(len(images))
        return [
            Candidates(people.select(np.argsort(-people.scores)), exclusive=True)
            for people in (self(*both, timer) for both in zip(images, boxes, strict=True))
        ]

    def __call__(
        self, image: np.ndarray, boxes: Detections | None = None, timer: StageTimer | None = None
    ) -> People:
        self.calls.append(image)
        self.boxes.append(boxes)
        if (image == 13).all():
            raise RuntimeError('no luck')
        with (timer or StageTimer())('detect'):
            time.sleep(self.seconds)
        number = 3 if boxes is None else len(boxes)
        return make_people(number, *image.shape[:2], seed=int(image[0, 0, 0]))


def save_image(path: Path, value: int = 100, size: tuple[int, int] = (60, 40)) -> Path:
    """Save an image of one colour (``value`` 13 makes `FakePipeline` fail)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.new('RGB', size, (value,) * 3).save(path, lossless=True)
    return path


def save_images(folder: Path) -> Path:
    """Save `IMAGES` to a folder."""
    for name, value in IMAGES.items():
        save_image(folder / name, value)
    return folder


def run(
    folder: Path, out: Path, pipeline: FakePipeline | None = None, **options: Any
) -> tuple[RunReport, FakePipeline]:
    """Run a fake pipeline on a folder."""
    pipeline = pipeline or FakePipeline()
    found = find_images([str(folder)], exclude=out)
    save = frozenset(options.pop('save', OUTPUTS))
    report = run_images(
        pipeline, found.images, RunOptions(out, save, **options), failures=found.failures
    )
    return report, pipeline


def contents(out: Path) -> dict[str, bytes]:
    """Read all files of a run, without times."""
    left_out = {'run.json', '.lock'}
    files = (p for p in out.rglob('*') if p.is_file() and p.name not in left_out)
    times = rb'"seconds": [0-9.]+|(?<=,)[0-9.]+(?=,[^,]*$)'
    return {p.relative_to(out).as_posix(): re.sub(times, b'', p.read_bytes(), flags=re.M)
            if p.parent.name == 'predictions' or p.name == 'images.csv' or p.suffix == '.json'
            else p.read_bytes() for p in files}  # fmt: skip


def start_program(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Start Python code in a new process that finds this project."""
    command = [sys.executable, '-c', code, *map(str, arguments)]
    environment = {**os.environ, 'PYTHONPATH': str(Path(__file__).parents[1])}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, 'the run does not continue'
        time.sleep(0.01)


def done_records(out: Path) -> int:
    return len([p for p in (out / 'predictions').rglob('*.json') if not p.name.startswith('.')])
