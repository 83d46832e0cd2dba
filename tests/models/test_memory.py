"""Memory is bounded by settings, not by the crowd: the real loop on a large photo."""

from __future__ import annotations

import dataclasses
import os
import platform
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from pipeline import build, load_pipeline
from pipeline.build import build_pipeline
from pipeline.config import load_config
from pipeline.loop import PersonPipeline
from pipeline.masks import Masks
from pipeline.structures import Detections, People
from tests.largest_tensor import LargestTensor
from tests.scripted_detector import ScriptedDetector

ROOT = Path(__file__).resolve().parents[2]
HEIGHT, WIDTH = 1500, 2000
PERSON = (160, 60)  # h, w


@pytest.fixture(scope='module')
def pipeline() -> PersonPipeline:
    options = {
        'pose.batch_size': 4,
        'segmenter.batch_size': 4,
        'segmenter.prompt.use_box': True,
        'loop.min_score': None,  # nobody is in the noise; all the same, everybody counts
    }
    return build_pipeline(load_config('bmp_compact', options)).run


def crowd(number: int) -> Detections:
    """People side by side in rows, as a detector gives them."""
    h, w = PERSON
    places = [(x, y) for y in range(0, HEIGHT - h, h) for x in range(0, WIDTH - w, w)][:number]
    corners = np.array(places, np.float32)
    body = np.zeros(PERSON, bool)
    body[8:-8, 8:-8] = True
    return Detections(
        np.concatenate([corners, corners + np.array([w, h])], axis=1, dtype=np.float32),
        np.ones(number, np.float32),
        Masks.from_places(HEIGHT, WIDTH, [(x, y, body) for x, y in places]),
    )


def run(pipeline: PersonPipeline, number: int) -> tuple[People, int, int]:
    """People, peak of Python's memory without the results, largest tensor; both in bytes."""
    image = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    people = crowd(number)
    half = np.arange(number) < number // 2
    script = ScriptedDetector([people.select(half), people.select(~half)])
    with LargestTensor() as tensors:
        tracemalloc.start()
        found = dataclasses.replace(pipeline, detector=script)(image)
        now, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return found, peak - now, tensors.bytes


def test_ten_times_the_people_take_the_same_memory(pipeline: PersonPipeline) -> None:
    few, few_bytes, few_tensor = run(pipeline, 8)
    many, many_bytes, many_tensor = run(pipeline, 80)
    assert (len(few), len(many)) == (8, 80)
    assert many_tensor == few_tensor
    # Soft masks, two bytes per pixel of a person's box, are what people may add to the photo's
    # own copies: not a fraction of an array of people times pixels.
    soft = 2 * 2 * 80 * PERSON[0] * PERSON[1]
    assert many_bytes - few_bytes < 2 * soft < 0.05 * 80 * HEIGHT * WIDTH
    assert few_bytes < 8 * 3 * HEIGHT * WIDTH


KEPT = """
import torch
from pipeline.runtime.malloc import release_freed
from pipeline.runtime.memory import resident_bytes
before = resident_bytes()
pieces = [torch.ones(2**20, dtype=torch.uint8) for _ in range(64)]
last = torch.ones(2**16, dtype=torch.uint8)  # above them, so that glibc keeps them
del pieces
print((resident_bytes() - before) // 2**20)
assert release_freed()
print((resident_bytes() - before) // 2**20)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='a function of glibc')
def test_freed_tensors_go_back_to_the_system() -> None:
    # 2 MB: the limit that glibc reaches once such pieces are freed.
    kept = {**os.environ, 'MALLOC_MMAP_THRESHOLD_': str(2 * 2**20)}
    done = subprocess.run(
        [sys.executable, '-c', KEPT], cwd=ROOT, env=kept, capture_output=True, text=True, check=True
    )
    before, after = map(int, done.stdout.split())
    assert before >= 60 and after <= 3


@pytest.mark.parametrize(('value', 'calls'), [('give_back', 2), (None, 0)])
def test_memory_is_released_after_each_use_of_a_model(
    value: str | None, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    monkeypatch.setattr(build, 'release_freed', lambda: seen.append(1))
    options = {'runtime.freed_memory': value, 'runtime.device': 'cpu', 'loop.max_rounds': 1}
    load_pipeline('bmp_compact', options)(np.zeros((64, 64, 3), np.uint8))
    assert len(seen) == calls  # detector and pose estimator; nobody is there to segment
