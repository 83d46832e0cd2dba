"""Tools that prepare training data name what is wrong with a file or a setting."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from projects.compact_models.tools import (
    find_pseudo_boxes,
    find_pseudo_masks,
    prepare_box_data,
    prepare_compact_data,
    prepare_compact_pose_data,
    prepare_cutouts,
)

NO_COCO = '{"people": []}'
NO_JSON = '{'
GOOD = '{"images": [], "annotations": [], "categories": []}'
ONE_MASK = (
    '{"images": [{"id": 1, "file_name": "gone.jpg", "subset": "train"}], "annotations": '
    '[{"id": 1, "image_id": 1, "has_mask": true}], "categories": []}'
)

TEACHER = ['--config', 'c.py', '--checkpoint', 'c.pth']
# Name, tool, arguments, files, what is said.
CASES: list[tuple[str, Callable[[list[str]], Any], list[str], dict[str, str], str]] = [
    ('box data: people', prepare_box_data.main, ['.', 'f.json', 'o.json', '--keypoints', 'k.json'],
     {'train.json': NO_COCO, 'f.json': '[]', 'k.json': GOOD},
     'train.json: not a COCO annotation file: it has no list of objects "images"'),
    ('box data: detections', prepare_box_data.main,
     ['.', 'f.json', 'o.json', '--keypoints', 'k.json'],
     {'train.json': GOOD, 'f.json': NO_JSON, 'k.json': GOOD},
     'f.json: not a JSON file'),
    ('box data: keypoints', prepare_box_data.main,
     ['.', 'f.json', 'o.json', '--keypoints', 'k.json'],
     {'train.json': GOOD, 'f.json': '[]'}, 'k.json: cannot be read'),
    ('box data: other images', prepare_box_data.main,
     ['.', 'f.json', 'o.json', '--keypoints', 'k.json'],
     {'train.json': GOOD, 'f.json': '[{"image_id": 3}]', 'k.json': GOOD},
     '1 image ids are not in ./train.json, such as 3'),
    ('detector data', prepare_compact_data.main, ['.', 'out'],
     {'annotations.json': NO_COCO}, 'annotations.json: not a COCO annotation file'),
    ('detector data: quality', prepare_compact_data.main, ['.', 'out', '--jpeg-quality', '101'],
     {'annotations.json': GOOD}, '--jpeg-quality 101 is out of range; choose 1 to 100'),
    ('cut-outs', prepare_cutouts.main, ['.', 'out'],
     {'annotations.json': NO_JSON}, 'annotations.json: not a JSON file'),
    ('teacher', find_pseudo_boxes.main, ['.', 'found.json', *TEACHER],
     {'annotations.json': NO_COCO}, 'annotations.json: not a COCO annotation file'),
    ('cut-outs: image', prepare_cutouts.main, ['.', '.'], {'annotations.json': ONE_MASK},
     'gone.jpg: no such file or directory; check the path'),
    ('masks', find_pseudo_masks.main, ['.', 'found.json'],
     {'annotations.json': NO_COCO}, 'annotations.json: not a COCO annotation file'),
    ('masks: fraction', find_pseudo_masks.main, ['.', 'found.json', '--min-agreement', '1.5'],
     {'annotations.json': GOOD}, '--min-agreement 1.5 is out of range; choose 0 to 1'),
    ('poses', prepare_compact_pose_data.main,
     ['--annotations', 'annotations.json', '--images', '.', '--out', 'out'],
     {'annotations.json': NO_COCO}, 'annotations.json: not a COCO annotation file'),
    ('poses: quality', prepare_compact_pose_data.main,
     ['--annotations', 'annotations.json', '--images', '.', '--out', 'o', '--jpeg-quality', '0'],
     {'annotations.json': GOOD}, '--jpeg-quality 0 is out of range; choose 1 to 100'),
]  # fmt: skip


@pytest.mark.parametrize(
    ('tool', 'arguments', 'files', 'message'), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_what_is_wrong_is_said(
    tool: Callable[[list[str]], Any],
    arguments: list[str],
    files: dict[str, str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, content in files.items():
        Path(name).write_text(content)
    before = sorted(path.name for path in tmp_path.iterdir())
    try:
        status = tool(arguments)
    except SystemExit as stop:
        status = stop.code
    assert status not in (None, 0)
    assert message in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == before
