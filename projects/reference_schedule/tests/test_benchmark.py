"""The benchmark on real models with random weights, in small."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.loop import PersonPipeline
from projects.reference_schedule import __main__ as benchmark
from projects.reference_schedule.case import Case, Played, build, on_stage, play, warm_up
from projects.reference_schedule.floor import CountingTimer
from projects.reference_schedule.reference_loop import ReferenceStages, run_reference
from projects.reference_schedule.reference_stages import reference_stages
from projects.reference_schedule.schedule import comparable, difference
from projects.reference_schedule.scripted import PlayedDetector, played_masks
from projects.reference_schedule.stages import sweep

SMALL = Case(width=160, height=120, people=4, rounds=2, random_weights=True)


@pytest.fixture(scope='module')
def ours() -> PersonPipeline:
    return build(comparable(SMALL))


@pytest.fixture(scope='module')
def theirs() -> ReferenceStages:
    return reference_stages(comparable(SMALL))


def run_both(case: Case, ours: PersonPipeline, theirs: ReferenceStages) -> tuple[Played, Any]:
    crowd = case.crowd()
    with on_stage(ours, crowd), played_masks(theirs.segmenter, crowd):
        return play(ours, crowd), run_reference(theirs, crowd)


@pytest.mark.parametrize(
    ('width', 'height', 'people'),
    [(160, 120, 4), (120, 200, 1), (400, 300, 13)],
    ids=['small', 'one person, none in round two', 'larger than the mask, prompts of all lengths'],
)
def test_the_reference_schedule_gives_what_the_loop_gives(
    ours: PersonPipeline, theirs: ReferenceStages, width: int, height: int, people: int
) -> None:
    case = Case(width=width, height=height, people=people, rounds=2, random_weights=True)
    mine, reference = run_both(case, ours, theirs)
    apart = difference(mine, reference)
    assert apart.people == people == len(mine.people)
    assert apart.min_mask_iou >= 0.99 and apart.max_keypoint_px < 0.5 and apart.equal
    # Masks have the extent of the people, and nobody is a fallback.
    assert (mine.people.masks.areas > 0).all() and (mine.people.mask_sources == 0).all()


def test_a_difference_between_the_schedules_shows(
    ours: PersonPipeline, theirs: ReferenceStages
) -> None:
    mine, reference = run_both(SMALL, ours, theirs)
    keypoints = [k.copy() for k in mine.keypoints]
    keypoints[1][0, 3, 0] += 0.75
    moved = Played(mine.people, keypoints, mine.detected)
    assert difference(moved, reference).max_keypoint_px == pytest.approx(0.75, abs=0.01)
    assert not difference(moved, reference).equal
    reference.masks[2] &= np.arange(SMALL.width) % 2 == 0
    assert 0.3 < difference(mine, reference).min_mask_iou < 0.7
    short = Played(mine.people.select(np.arange(3)), mine.keypoints, mine.detected)
    with pytest.raises(RuntimeError, match='found 3 people, the reference schedule 4'):
        difference(short, reference)


def test_the_models_answers_count(theirs: ReferenceStages) -> None:
    """Other weights, other masks and keypoints: what is compared is not the script itself."""
    import torch

    other = build(comparable(SMALL))
    with torch.no_grad():
        for model in (other.pose_estimator.model, other.segmenter.model):  # type: ignore[attr-defined]
            for weight in model.parameters():
                weight += 0.05 * torch.randn_like(weight)
    mine, reference = run_both(SMALL, other, theirs)
    apart = difference(mine, reference)
    assert apart.min_mask_iou < 0.999 and apart.max_keypoint_px > 0.5


def test_people_who_are_cut_out_have_the_masks_of_the_crowd_too() -> None:
    pipeline = build(SMALL)
    assert pipeline.segmenter.zoom is not None  # type: ignore[attr-defined]
    crowd = SMALL.crowd()
    with on_stage(pipeline, crowd):
        people = play(pipeline, crowd).people
    rows = [*range(0, 4, 2), *range(1, 4, 2)]  # by rounds
    for found, row in enumerate(rows):
        mask, truth = people.masks.dense(found), crowd.masks.dense(row)
        assert (mask & truth).sum() > 0.6 * (mask | truth).sum()
    unboxed = replace(SMALL, options={'segmenter.prompt.use_box': False})
    pipeline = build(unboxed)
    with pytest.raises(ValueError, match='played by their boxes'), on_stage(pipeline, crowd):
        play(pipeline, crowd)


def test_the_real_detector_finds_as_many_as_the_script(ours: PersonPipeline) -> None:
    crowd = SMALL.crowd()
    detector = PlayedDetector(ours.detector, crowd.detections())
    sizes = [len(detector(crowd.image)) for _ in range(3)]
    assert sizes == [2, 2, 0]
    assert detector.found[:2] == [2, 2]


def test_a_segmenter_that_never_asks_its_decoder_is_told(ours: PersonPipeline) -> None:
    with pytest.raises(RuntimeError, match='never called'), on_stage(ours, SMALL.crowd()):
        pass


def test_counted_work_is_that_of_the_stages(ours: PersonPipeline) -> None:
    crowd, timer = SMALL.crowd(), CountingTimer()
    warm_up(ours, SMALL)
    with on_stage(ours, crowd):
        play(ours, crowd, timer)
    assert min(timer.operations[stage] for stage in ('detect', 'pose', 'segment')) > 1e8
    assert min(timer.traffic[stage] for stage in ('detect', 'pose', 'segment')) > 1e7
    assert timer.operations['merge'] == 0


SIZE = ['--random-weights', '--repeats', '1', '--people', '2', '--size', '160', '120']


def run(tmp_path: Path, *arguments: str) -> tuple[dict[str, Any], str]:
    files = ['--json', str(tmp_path / 'a.json'), '--markdown', str(tmp_path / 'a.md')]
    assert benchmark.main([*arguments, *files]) == 0
    text = (tmp_path / 'a.md').read_text()
    for table in re.findall(r'(?:^\|.*\n)+', text, re.MULTILINE):
        assert len({line.count('|') for line in table.splitlines()}) == 1, table
    return json.loads((tmp_path / 'a.json').read_text()), text


def test_stages_mode(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures, text = run(tmp_path, 'stages', *SIZE)
    assert {'detect', 'pose', 'segment', 'merge', 'whole'} <= set(figures['stages'])
    assert figures['found'] == 2 and figures['detected'] == [1, 1]
    parts = sum(row['cpu_s'] for name, row in figures['stages'].items() if name != 'whole')
    assert parts == pytest.approx(figures['stages']['whole']['cpu_s'], rel=0.01)
    assert '160 x 120 px, 2 people, 2 rounds' in text
    assert capsys.readouterr().out == text


def test_sweep_mode(tmp_path: Path) -> None:
    figures, text = run(
        tmp_path, 'sweep', *SIZE, '--over', 'people', 'precision', '--over-people', '1', '2', '4',
        '--over-precision', 'fp32', 'bf16', '--plot', str(tmp_path / 'a.png'),
    )  # fmt: skip
    people, precision = figures['sweeps']
    assert [row['found'] for row in people['rows']] == [1, 2, 4]
    assert set(people['fits']) == {*people['rows'][0]['stages'], 'memory'}
    assert len({row['case']['tall'] for row in people['rows']}) == 1
    assert [row['case']['precision'] for row in precision['rows']] == ['fp32', 'bf16']
    assert 'per person' in text and 'R²' in text
    assert (tmp_path / 'a.png').read_bytes().startswith(b'\x89PNG')


def test_sweep_knows_its_axes() -> None:
    with pytest.raises(ValueError, match=r"people, size, rounds, precision, got 'colour'"):
        sweep(SMALL, 'colour', [1], 1)


@pytest.mark.slow
@pytest.mark.parametrize('axis', ['size', 'rounds'])
def test_further_axes_of_the_sweep(axis: str) -> None:
    values = {'size': [160, 320], 'rounds': [1, 2]}[axis]
    part = sweep(SMALL, axis, values, 1)
    assert [row['case']['width' if axis == 'size' else axis] for row in part['rows']] == values
    assert all(row['found'] == SMALL.people for row in part['rows'])
    assert {'detect', 'pose', 'segment', 'merge', 'whole', 'memory'} <= set(part['fits'])


def test_schedule_mode(tmp_path: Path) -> None:
    figures, text = run(tmp_path, 'schedule', *SIZE, '--same-process')
    assert figures['difference']['equal'] and figures['ratio']['cpu_s'] > 0
    assert set(figures['sides']['reference']['stages_cpu_s']) >= {'detect', 'pose', 'segment'}
    assert '2 people on both sides' in text and 'equal.' in text


@pytest.mark.slow
def test_schedule_mode_measures_memory_in_own_processes(tmp_path: Path) -> None:
    figures, text = run(
        tmp_path, 'schedule', '--random-weights', '--repeats', '1', '--people', '8',
        '--size', '2000', '1500',
    )  # fmt: skip
    sides = figures['sides']
    # Eight dense masks of 3 megapixels in float32 are 92 MiB.
    assert sides['reference']['peak_extra_mib'] > 92 > 0 < sides['ours']['peak_extra_mib']
    assert 'peak extra memory, MiB' in text


def test_floor_mode(tmp_path: Path) -> None:
    figures, text = run(tmp_path, 'floor', *SIZE)
    assert figures['rates']['matmul_fp32_gflops'] > 1 < figures['rates']['copy_gb_s'] * 10
    for stage in ('detect', 'pose', 'segment'):
        row = figures['stages'][stage]
        assert row['floor_s'] > 0 and row['ratio'] == pytest.approx(row['cpu_s'] / row['floor_s'])
    assert figures['stages']['merge']['ratio'] is None
    assert 'GFLOP/s float32' in text


@pytest.mark.slow
def test_start_mode(tmp_path: Path) -> None:
    figures, _ = run(tmp_path, 'start', '--repeats', '1')
    rows = figures['start']
    assert rows['help of run_bmp.py']['cpu_s'] < rows['imports and weights']['cpu_s']
    assert rows['of these, weights']['wall_s'] > 0


def test_start_mode_tells_what_failed() -> None:
    from projects.reference_schedule.start import measure_start

    with pytest.raises(RuntimeError, match="no pipeline config 'nothing'"):
        measure_start('nothing', 1)


def test_memory_mode(tmp_path: Path) -> None:
    figures, _ = run(
        tmp_path, 'memory', '--random-weights', '--people', '3', '--size', '320', '240'
    )
    assert figures['people given'] == 3 and 'peak above idle MiB' in figures


def test_scoring_mode(tmp_path: Path) -> None:
    figures, _ = run(tmp_path, 'scoring', '--images', '20')
    assert figures['images'] == 20 and figures['largest difference in AP'] < 1e-6


def test_wrong_values_are_told_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark.main(['stages', '--people', '0']) == 2
    assert 'people must be >= 1, got 0' in capsys.readouterr().err
    assert benchmark.main(['floor', '--device', 'cuda']) == 2
    assert 'use cpu' in capsys.readouterr().err
    assert benchmark.main(['stages', '--config', 'bmp_v3']) == 2
    assert 'no pipeline config' in capsys.readouterr().err
    with pytest.raises(SystemExit):
        benchmark.main(['sweep', '--over', 'precision', '--plot', 'a.png'])
    assert 'add one of them to --over' in capsys.readouterr().err
