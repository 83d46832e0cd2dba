"""Shipped pipelines in full size: random weights saved as the released files, loaded, run."""

from __future__ import annotations

from pathlib import Path

import pytest

import check_full_size
from check_full_size import Case, all_cases, check_case, main


@pytest.mark.slow
@pytest.mark.parametrize('case', all_cases(), ids=lambda case: case.name)
def test_files_in_the_released_layout_load_and_run(case: Case, tmp_path: Path) -> None:
    report = check_case(case, tmp_path)
    for path in tmp_path.iterdir():
        path.unlink()  # pytest keeps its folders; these files have gigabytes
    assert report.problem == ''
    assert report.people >= 2


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
    from pipeline.checkpoints import download_folder

    monkeypatch.setenv('BMP_CHECKPOINTS', '/before')
    with check_full_size.downloads_in(Path('/inside')):
        assert download_folder() == Path('/inside')
    assert download_folder() == Path('/before')
