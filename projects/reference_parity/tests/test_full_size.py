"""Shipped pipelines in full size: random weights saved as the released files, loaded, run."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.masks import Masks
from pipeline.structures import MaskSource, People
from pipeline.weights.manifest import CheckpointError
from projects.reference_parity import full_size
from projects.reference_parity.full_size import (
    Case,
    Report,
    all_cases,
    check_case,
    main,
    report_of,
    without_repeats,
)
from tests.toy_people import people_in


@pytest.mark.slow
@pytest.mark.parametrize('case', without_repeats(all_cases()), ids=lambda case: case.name)
def test_files_in_the_released_layout_load_and_run(case: Case, tmp_path: Path) -> None:
    report = check_case(case, tmp_path)
    for path in tmp_path.iterdir():
        path.unlink()  # pytest keeps its folders; these files have gigabytes
    assert report.problem == ''
    assert report.people >= 2


def good_people(**changes: Any) -> People:
    """Two people as the check wants them, one in each round."""
    people = people_in([[5, 5, 40, 90], [50, 5, 90, 90]], (100, 100))
    good = {'rounds': np.array([1, 2], np.int32), 'prompts': np.zeros((2, 17), np.int32)}
    return dataclasses.replace(people, **(good | changes))


@pytest.mark.parametrize(
    ('changes', 'problem'),
    [
        pytest.param({}, '', id='all well'),
        pytest.param({'rounds': np.ones(2, np.int32)}, 'a round without people', id='round'),
        pytest.param(
            {'mask_sources': np.full(2, MaskSource.BOX, np.int32)}, 'no mask by SAM', id='SAM'
        ),
        pytest.param({'prompts': np.full((2, 17), -1, np.int32)}, 'no prompts', id='prompts'),
        pytest.param({'boxes': np.full((2, 4), 101, np.float32)}, 'boxes outside', id='boxes'),
        pytest.param({'scores': np.full(2, 1.5, np.float32)}, 'scores outside', id='scores'),
        pytest.param(
            {'masks': Masks.from_dense([np.ones((100, 100), bool)] * 2, (100, 100))},
            'masks that share pixels',
            id='masks',
        ),
        pytest.param(
            {'keypoints': np.full((2, 17, 2), np.nan, np.float32)}, 'NaN or infinity', id='NaN'
        ),
        pytest.param(
            {'keypoints': np.full((2, 17, 2), 5, np.float32)}, 'not equal to the models', id='other'
        ),
    ],
)
def test_what_is_wrong_with_a_result_is_found(changes: dict[str, Any], problem: str) -> None:
    found = full_size.problem_with(good_people(**changes), good_people(), (100, 100))
    assert problem in found if problem else found == ''


def test_a_case_that_fails_is_a_row_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def check(case: Case, folder: Path) -> Report:
        assert list(folder.iterdir()) == []
        if case.name == 'bmp_v1':
            raise CheckpointError('does not fit')
        return Report(case.name, 1, 1, 1, 1, 1, 2, '')

    monkeypatch.setattr('projects.reference_parity.full_size.check_case', check)
    monkeypatch.setattr(
        'projects.reference_parity.full_size.in_own_process',
        lambda case, parent: report_of(case, tmp_path),
    )
    assert main(['bmp_v1', 'bmp_v2']) == 1
    shown = capsys.readouterr().out.splitlines()
    assert 'CheckpointError: does not fit' in shown[2] and 'equal' in shown[3]
    assert main(['bmp_v2']) == 0


def test_a_case_runs_in_a_process_of_its_own() -> None:
    report = full_size.in_own_process(Case('absent', 'bmp_v3'), None)
    assert report.case == 'absent'
    assert "ConfigError: no pipeline config 'bmp_v3'" in report.problem


def test_every_shipped_pipeline_is_a_case() -> None:
    names = [case.name for case in all_cases()]
    assert {'bmp_v2', 'bmp_v2_plus', 'bmp_v1', 'bmp_custom_example'} <= set(names)
    assert len(names) == len(set(names))


def test_the_tool_lists_cases_and_refuses_unknown_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['--list']) == 0
    assert 'bmp_v2_plus' in capsys.readouterr().out.splitlines()
    with pytest.raises(SystemExit) as stop:
        main(['bmp_v3'])
    assert stop.value.code == 2
    assert "no case 'bmp_v3'; known:" in capsys.readouterr().err


def test_files_are_looked_for_in_the_folder_only_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.weights.manifest import download_folder

    monkeypatch.setenv('BMP_CHECKPOINTS', '/before')
    with full_size.downloads_in(Path('/inside')):
        assert download_folder() == Path('/inside')
    assert download_folder() == Path('/before')
