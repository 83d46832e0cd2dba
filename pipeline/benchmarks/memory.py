"""Peak memory of pose and mask models on one large photo whose people come from an oracle."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from ..masks import Masks
from ..runtime.timing import StageTimer
from ..structures import Detections, size_of
from .memory_peak import PeakMemory


def measure_memory(
    config: str, options: dict[str, Any], size: tuple[int, int], people: int, seed: int
) -> dict[str, Any]:
    """Peak memory above the idle models for one synthetic photo with many people.

    Args:
        config: a pipeline; its detector is replaced by the true boxes and masks.
        options: overrides of the config.
        size: width and height of the photo in px.
        people: number of people aimed at.
        seed: of the photo.
    """
    from ..build import build_pipeline
    from ..config import load_config
    from ..detectors.scripted import ScriptedDetector
    from ..runtime.memory import resident_bytes
    from ..synthetic.scene import SceneConfig, make_scene

    width, height = size
    scene = make_scene(
        SceneConfig(
            width=width,
            height=height,
            min_people=people,
            max_people=people,
            min_person_height=0.15,
            max_person_height=0.5,
            overlap=0.6,
            seed=seed,
        )
    )
    # One person at a time: a dense stack of these masks would itself be the peak.
    masks = Masks.from_dense((scene.mask(i) for i in range(len(scene.boxes))), (height, width))
    scores = np.ones(len(masks), np.float32)
    script = ScriptedDetector([Detections(scene.boxes, scores, masks)])
    pipeline = build_pipeline(load_config(config, options)).run
    small = scene.image[:480, :640].copy()
    box = [[0, 0, small.shape[1] / 3, small.shape[0] / 2]]
    pipeline(small, Detections.from_boxes(box, size_of(small)))  # first calls allocate
    idle, timer = resident_bytes(), StageTimer()
    with PeakMemory() as peak:
        found = dataclasses.replace(pipeline, detector=script)(scene.image, timer=timer)
    return {
        'photo': f'{width} x {height}',
        'people given': len(masks),
        'people found': len(found),
        'idle MiB': round(idle / 2**20),
        'peak above idle MiB': round(peak.mib) if peak.exact else f'< {round(peak.mib)}',
        **{f'{stage} s': round(seconds, 2) for stage, seconds in timer.seconds.items()},
    }
