"""Both schedules on real models with random weights, in small."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.loop import PersonPipeline
from projects.reference_schedule.__main__ import main
from projects.reference_schedule.case import Case, ScriptedResult, build, run_scripted
from projects.reference_schedule.reference_loop import ReferenceStages, run_reference
from projects.reference_schedule.reference_stages import reference_stages
from projects.reference_schedule.schedule import difference
from projects.reference_schedule.scripted import ScriptedDetector, scripted_masks

SMALL = Case(width=160, height=120, people=4, rounds=2, random_weights=True)


@pytest.fixture(scope='module')
def pipeline() -> PersonPipeline:
    return build(SMALL)


@pytest.fixture(scope='module')
def stages() -> ReferenceStages:
    return reference_stages(SMALL)


def run_both(
    case: Case, pipeline: PersonPipeline, stages: ReferenceStages
) -> tuple[ScriptedResult, Any]:
    crowd = case.crowd()
    with scripted_masks(pipeline.segmenter, crowd), scripted_masks(stages.segmenter, crowd):
        return run_scripted(pipeline, crowd), run_reference(stages, crowd)


@pytest.mark.parametrize(
    ('width', 'height', 'people'),
    [(160, 120, 4), (120, 200, 1), (400, 300, 13)],
    ids=['small', 'one person, none in round two', 'larger than the mask, prompts of all lengths'],
)
def test_the_reference_schedule_gives_what_the_loop_gives(
    pipeline: PersonPipeline, stages: ReferenceStages, width: int, height: int, people: int
) -> None:
    case = Case(width=width, height=height, people=people, rounds=2, random_weights=True)
    result, reference = run_both(case, pipeline, stages)
    apart = difference(result, reference)
    assert apart.people == people == len(result.people)
    assert apart.min_mask_iou >= 0.99 and apart.max_keypoint_px < 0.5 and apart.equal
    # Masks have the extent of the people, and none is a fallback.
    assert (result.people.masks.areas > 0).all() and (result.people.mask_sources == 0).all()


def test_a_segmenter_of_whole_images_gives_the_same_too() -> None:
    case = replace(SMALL, people=6, options={'segmenter.crop_segmentation': None})
    result, reference = run_both(case, build(case), reference_stages(case))
    assert difference(result, reference).equal and len(result.people) == 6


def test_a_difference_between_the_schedules_shows(
    pipeline: PersonPipeline, stages: ReferenceStages
) -> None:
    result, reference = run_both(SMALL, pipeline, stages)
    keypoints = [k.copy() for k in result.keypoints]
    keypoints[1][0, 3, 0] += 0.75
    moved = ScriptedResult(result.people, keypoints, result.detected)
    assert difference(moved, reference).max_keypoint_px == pytest.approx(0.75, abs=0.01)
    assert not difference(moved, reference).equal
    reference.masks[2] &= np.arange(SMALL.width) % 2 == 0
    assert 0.3 < difference(result, reference).min_mask_iou < 0.7
    short = ScriptedResult(result.people.select(np.arange(3)), result.keypoints, result.detected)
    with pytest.raises(RuntimeError, match='found 3 people, the reference schedule 4'):
        difference(short, reference)


def test_the_models_affect_the_result(stages: ReferenceStages) -> None:
    """Other weights, other masks and keypoints: what is compared is not the script itself."""
    import torch

    other = build(SMALL)
    with torch.no_grad():
        for model in (other.pose_estimator.model, other.segmenter.crop_segmenter.model):  # type: ignore[attr-defined]
            for weight in model.parameters():
                weight += 0.05 * torch.randn_like(weight)
    result, reference = run_both(SMALL, other, stages)
    apart = difference(result, reference)
    assert apart.min_mask_iou < 0.999 and apart.max_keypoint_px > 0.5


def test_cropped_people_have_the_masks_of_the_crowd() -> None:
    pipeline = build(SMALL)
    assert pipeline.segmenter.crops is not None  # type: ignore[attr-defined]
    crowd = SMALL.crowd()
    with scripted_masks(pipeline.segmenter, crowd):
        people = run_scripted(pipeline, crowd).people
    masks = [people.masks.dense(found) for found in range(4)]
    for row in range(4):  # people are sorted by score
        truth = crowd.masks.dense(row)
        assert max((m & truth).sum() / (m | truth).sum() for m in masks) > 0.6
    unboxed = replace(SMALL, options={'segmenter.prompt.use_box': False})
    pipeline = build(unboxed)
    with (
        pytest.raises(ValueError, match='scripted by their boxes'),
        scripted_masks(pipeline.segmenter, crowd),
    ):
        run_scripted(pipeline, crowd)


def test_the_real_detector_finds_as_many_as_the_script(pipeline: PersonPipeline) -> None:
    crowd = SMALL.crowd()
    detector = ScriptedDetector(pipeline.detector, crowd.detections())
    sizes = [len(detector(crowd.image)) for _ in range(3)]
    assert sizes == [2, 2, 0]
    assert detector.found[:2] == [2, 2]


def test_a_segmenter_that_never_calls_its_decoder_is_reported(pipeline: PersonPipeline) -> None:
    with (
        pytest.raises(RuntimeError, match='never called'),
        scripted_masks(pipeline.segmenter, SMALL.crowd()),
    ):
        pass


SIZE = ['--random-weights', '--repeats', '1', '--people', '2', '--size', '160', '120']


def test_the_command_writes_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / 'a.json'
    assert main([*SIZE, '--same-process', '--json', str(file)]) == 0
    figures, text = json.loads(file.read_text()), capsys.readouterr().out
    assert figures['difference']['equal'] and figures['ratio']['cpu_s'] > 0
    assert set(figures['sides']['reference']['stages_cpu_s']) >= {'detect', 'pose', 'segment'}
    assert '2 people on both sides' in text and ': equal.' in text
    assert "loop.resolve_overlaps='logits'" in text  # settings that are not the shipped ones
    assert len({line.count('|') for line in text.splitlines() if line.startswith('|')}) == 1


def test_memory_is_measured_in_own_processes(tmp_path: Path) -> None:
    file = tmp_path / 'a.json'
    large = ['--people', '8', '--size', '2000', '1500', '--repeats', '1', '--random-weights']
    assert main([*large, '--json', str(file)]) == 0
    sides = json.loads(file.read_text())['sides']
    # Eight dense masks of 3 megapixels in float32 are 92 MiB.
    assert sides['reference']['peak_extra_mib'] > 92 > 0 < sides['package']['peak_extra_mib']


def test_wrong_values_are_reported_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['--people', '0']) == 2
    assert 'people must be >= 1, got 0' in capsys.readouterr().err
    assert main(['--config', 'bmp_v3']) == 2
    assert 'no pipeline config' in capsys.readouterr().err
