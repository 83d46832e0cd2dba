"""Every training config of this project is complete and spelled right."""

from __future__ import annotations

from pathlib import Path

import pytest
from mmengine.registry import DefaultScope

from pipeline.training.launch import LaunchOptions, all_problems, apply_options, read_config

CONFIGS = sorted((Path(__file__).parents[1] / 'configs').glob('*.py'))


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_settings_are_right(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / 'cutouts.json').write_text('["person.png"]')
    monkeypatch.setenv('COMPACT_CUTOUTS', str(tmp_path))
    config, scope = read_config(path, {})
    with DefaultScope.overwrite_default_scope(scope):
        found = [
            *apply_options(config, path, LaunchOptions(work_dir=tmp_path)),
            *all_problems(config, scope),
        ]
    absent = ('docs/user_guide/datasets.md', 'load_from: no weights')
    assert [problem for problem in found if not any(text in problem for text in absent)] == []
