"""Tools that measure and draw detection in slices, on small drawn crowds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from pipeline.cli.make_synthetic_crowd import main as draw_crowds
from projects.compact_models.tools import draw_slices, measure_slices


def test_a_table_has_a_row_for_each_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw_crowds([str(tmp_path), '--num-images', '2', '--people', '2', '2', '--size', '200', '160'])
    path = tmp_path / 'annotations.json'
    content = json.loads(path.read_text())
    for photo, subset in zip(content['images'], ('val', 'train'), strict=True):
        photo |= {'subset': subset, 'fully_annotated': True}
    for person in content['annotations']:
        person['has_keypoints'] = False
    path.write_text(json.dumps(content))
    capsys.readouterr()
    assert measure_slices.main([str(path), '--subset', 'val', '--tasks', 'bbox']) == 0
    title, header, _, *rows = capsys.readouterr().out.strip().splitlines()
    assert title.startswith('bmp_compact, 1 photos') and 'CPU s an image' in header
    names = [row.split(' | ')[0] for row in rows]
    assert names == ['| off', '| 2x2, from round 2', '| 2x2, from round 1']
    people = measure_slices.read_people(path, 'val')['annotations']
    assert len(people) == 2 and all(person['num_keypoints'] == 0 for person in people)


def test_the_picture_has_a_column_without_and_one_with_slices(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draw_slices, 'CROWDS', {'street': (3, 0.2, 0.5, 0.2)})
    assert draw_slices.main([str(tmp_path / 'a.jpg')]) == 0
    with Image.open(tmp_path / 'a.jpg') as picture:
        assert picture.size == (1280, 300)
    first, second = capsys.readouterr().out.strip().splitlines()
    assert first.startswith('slices off: street ') and first.endswith(' of 3')
    assert second.startswith('slices 2x2: street ')
