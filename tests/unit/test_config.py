"""Settings are checked before anything loads."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from pipeline.config import CONFIG_FOLDER, ConfigError, find_model_config, load_config

NAMES = sorted(p.stem for p in CONFIG_FOLDER.glob('*.py'))


@pytest.mark.parametrize('name', NAMES)
def test_every_shipped_config_loads_and_names_existing_files(name: str) -> None:
    resolved = load_config(name)
    for part in (resolved.settings.detector, resolved.settings.pose, resolved.settings.segmenter):
        assert find_model_config(part.config, resolved.path)


WRONG = [
    ({'loop.max_round': 1}, r"unknown setting 'loop.max_round' \(did you mean 'max_rounds'\?\)"),
    ({'lop.max_rounds': 1}, r"unknown setting 'lop' \(did you mean 'loop'\?\)"),
    ({'segmenter.own_box': True}, "renamed to 'segmenter.prompt_with_mask_box'"),
    ({'loop.max_rounds': 0}, 'loop.max_rounds must be >= 1, got 0'),
    ({'loop.max_rounds': 'two'}, "loop.max_rounds must be int or None, got 'two'"),
    ({'loop.refine': 1}, 'loop.refine must be bool, got 1'),
    ({'detector.max_iou': False}, 'off is None, never False'),
    ({'segmenter.prompt.crowd_iou': False}, 'off is None, never False'),
    ({'loop.pose_nms.box_area': 'xywh'}, "loop.pose_nms.box_area must be 'box' or 'mask'"),
    ({'loop.pose_nms.max_oks': 1.5}, r'pose_nms.max_oks must be in \(0, 1\], got 1.5'),
    ({'segmenter.prompt.num_keypoints': 18}, r'prompt.num_keypoints must be in \[1, 17\]'),
    ({'runtime.precision': 'half'}, "runtime.precision must be 'fp32' or 'bf16' or 'fp16'"),
    ({'detector.score_threshold': 2}, r'detector.score_threshold must be in \[0, 1\]'),
    ({'pose.batch_size': 0}, 'pose.batch_size must be >= 1'),
    ({'segmenter.prompt': 3}, 'segmenter.prompt must be a dict, got 3'),
    ({'loop.round_cap': 0}, 'loop.round_cap'),
    ({'loop.max_covered_fraction': 0.0}, 'loop.max_covered_fraction'),
    ({'loop.refine_min_side': -1}, 'loop.refine_min_side'),
    ({'loop.min_score': 1.5}, 'loop.min_score must be in'),
    ({'loop.score.later_rounds': 2}, r'later_rounds must be in \[0, 1\], got 2'),
    ({'loop.score.root': 0.5}, r'score.root must be >= 1, got 0.5'),
    ({'segmenter.prompt.num_keypoints': 0}, r'num_keypoints must be in \[1, 17\], got 0'),
    ({'segmenter.prompt.method': 'nearest'}, "prompt.method must be .*got 'nearest'"),
    ({'segmenter.prompt.visibility_threshold': 1.5}, 'prompt.visibility_threshold'),
    ({'segmenter.prompt.num_keypoints_in_crowd': 4}, 'prompt.crowd_iou is set'),
    ({'segmenter.prompt.num_negative': -1}, 'prompt.num_negative'),
]


@pytest.mark.parametrize(('options', 'message'), WRONG)
def test_wrong_settings_are_refused_by_name(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config('bmp_compact', options)


@pytest.mark.parametrize(
    ('old', 'new'),
    [
        ('loop.exclusive', 'loop.resolve_overlaps'),
        ('loop.hidden_share', 'loop.max_covered_fraction'),
        ('segmenter.draw_prompts', 'segmenter.mask_prompt_from_keypoints'),
        ('segmenter.min_hole', 'segmenter.max_hole_area'),
        ('segmenter.min_island', 'segmenter.min_component_area'),
        ('segmenter.min_island_share', 'segmenter.min_component_fraction'),
        ('segmenter.own_box', 'segmenter.prompt_with_mask_box'),
        ('segmenter.zoom', 'segmenter.crop_segmentation'),
    ],
)
def test_a_setting_of_version_0_1_is_refused_with_its_new_name(old: str, new: str) -> None:
    with pytest.raises(ConfigError, match=f"'{old}' .renamed to '{new}'"):
        load_config('bmp_compact', {old: 1})


def test_options_override_and_the_resolved_text_shows_them() -> None:
    resolved = load_config(
        'bmp_compact', {'loop.max_rounds': None, 'segmenter.prompt.num_keypoints': 1}
    )
    assert resolved.settings.loop.max_rounds is None
    assert resolved.settings.segmenter.prompt.num_keypoints == 1
    assert 'max_rounds=None' in resolved.text
    assert dataclasses.is_dataclass(resolved.settings)


def test_an_unknown_config_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"'bmp_compac' \(did you mean 'bmp_compact'\?\).*bmp_v2"):
        load_config('bmp_compac')


def test_a_users_config_inherits_and_finds_models_beside_it(tmp_path: Path) -> None:
    (tmp_path / 'det.py').write_text('model = dict()')
    mine = tmp_path / 'mine.py'
    mine.write_text(
        f"_base_ = '{CONFIG_FOLDER / 'bmp_compact.py'}'\n"
        "detector = dict(config='det.py', checkpoint=None)\n"
    )
    resolved = load_config(mine)
    assert find_model_config(resolved.settings.detector.config, mine) == str(tmp_path / 'det.py')
    assert find_model_config('compact/rtmdet-ins_compact.py', mine).startswith(str(CONFIG_FOLDER))
    with pytest.raises(ConfigError, match=r"no model config 'absent\.py'"):
        find_model_config('absent.py', mine)
