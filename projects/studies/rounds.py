"""Study of the number of rounds, with and without refinement.

One run with the maximum number of rounds covers all settings: the state after round r equals the
result of a run with ``max_rounds=r`` (`PersonPipeline.iter_rounds`).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.evaluation.coco import score
from pipeline.io.coco import Task
from pipeline.loop import PersonPipeline
from pipeline.structures import Image, People
from projects.studies.images import Parts, StudyImage


@dataclass(frozen=True)
class RoundSetting:
    """A point of the study."""

    rounds: int
    refine: bool

    @property
    def name(self) -> str:
        """Name of the cached part, also in file names."""
        return f'{self.rounds}{"-refined" if self.refine else ""}'


@dataclass(frozen=True)
class RoundRow:
    """Metrics of a setting in one task; None without annotated people."""

    rounds: int
    refine: bool
    task: str
    ap: float | None
    ap50: float | None
    ap75: float | None
    ar: float | None
    num_annotated: int  # people in the processed images
    num_results: int
    seconds_per_image: float  # all rounds of the setting, without reading the image


class RoundStudy:
    """Computes the parts of an image: COCO results and seconds of every setting."""

    def __init__(self, run: PersonPipeline) -> None:
        self.run = run

    def __call__(self, image: Image, item: StudyImage, missing: Sequence[str]) -> Parts:
        """Compute all parts up to the largest number of rounds in ``missing``."""
        last = max(int(name.split('-')[0]) for name in missing)
        refine = any(name.endswith('-refined') for name in missing)
        parts = {}
        for setting, people, seconds in self._run_rounds(image, last, refine):
            order = np.argsort(-people.scores, kind='stable')  # as in the results of a run
            rows = people.select(order).to_coco(item.image_id)
            parts[setting.name] = {'rows': rows, 'seconds': round(seconds, 4)}
        return parts

    def _run_rounds(
        self, image: Image, last: int, refine: bool
    ) -> list[tuple[RoundSetting, People, float]]:
        """Return people and seconds after each round."""
        snapshots = []
        states = self.run.iter_rounds([image])
        state, spent = next(states), 0.0
        for number in range(1, last + 1):
            start = time.perf_counter()
            state = next(states, state)
            spent += time.perf_counter() - start
            snapshots.append((RoundSetting(number, False), state[0].people, spent))
            if refine:
                start = time.perf_counter()
                people = self.run.refine(state)[0].people
                seconds = spent + time.perf_counter() - start
                snapshots.append((RoundSetting(number, True), people, seconds))
        return snapshots


def make_round_settings(last: int, refine: Sequence[bool]) -> list[RoundSetting]:
    """List the settings of rounds 1 to ``last``, for each choice of refinement."""
    return [RoundSetting(number, choice) for choice in refine for number in range(1, last + 1)]


def select_results(setting: RoundSetting, parts: Mapping[str, Parts]) -> list[dict[str, Any]]:
    """Select the COCO results of a setting, image by image."""
    return [row for part in parts.values() for row in part[setting.name]['rows']]


def compute_round_rows(
    settings: Sequence[RoundSetting],
    parts: Mapping[str, Parts],
    annotations: dict[str, Any],
    tasks: Sequence[Task],
) -> tuple[RoundRow, ...]:
    """Compute the metrics of every setting on ``annotations`` of the images in ``parts``."""
    rows = []
    for setting in settings:
        results = select_results(setting, parts)
        metrics = score(results, annotations, tasks)
        seconds = sum(part[setting.name]['seconds'] for part in parts.values())
        for task, figures in metrics.tasks.items():
            rows.append(
                RoundRow(
                    rounds=setting.rounds,
                    refine=setting.refine,
                    task=task,
                    ap=figures.ap,
                    ap50=figures.ap50,
                    ap75=figures.ap75,
                    ar=figures.ar,
                    num_annotated=metrics.num_people,
                    num_results=metrics.num_results,
                    seconds_per_image=seconds / max(len(parts), 1),
                )
            )
    return tuple(rows)
