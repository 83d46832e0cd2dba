"""Exports of people, read back as their consumers do."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from scipy.io import loadmat

from pipeline.crowd.attributes import measure_people
from pipeline.crowd.exports import FORMATS, export, find_count_points
from pipeline.structures import People
from pipeline.synthetic.scene import SceneConfig, make_scene
from tests.crowds import oracle_people

SCENE = make_scene(SceneConfig(min_people=8, max_people=8, overlap=0.8, seed=1, noise=0))
PEOPLE = oracle_people(SCENE)
IMAGES = [('a/one.jpg', PEOPLE), ('two.png', People.empty(40, 60))]
HEIGHT, WIDTH = PEOPLE.image_shape


def write(name: str, folder: Path) -> Path:
    return export(name, IMAGES, folder / 'new' / name)


def test_cvat_has_masks_in_the_order_of_depth(tmp_path: Path) -> None:
    root = ElementTree.parse(write('cvat', tmp_path)).getroot()
    first, second = root.findall('image')
    assert first.get('name') == 'a/one.jpg' and second.findall('mask') == []
    canvas = np.zeros((HEIGHT, WIDTH), int)
    for mask in sorted(first.findall('mask'), key=lambda m: int(m.get('z_order', ''))):
        runs = [int(v) for v in mask.get('rle', '').split(',')]
        left, top, width, height = (
            int(mask.get(k, '')) for k in ('left', 'top', 'width', 'height')
        )
        flat = np.repeat(np.arange(len(runs)) % 2, runs).reshape(height, width)
        number = int(mask.findtext('attribute', ''))
        canvas[top : top + height, left : left + width][flat == 1] = number
    assert (canvas == SCENE.instance_map).all()
    order = measure_people(PEOPLE)[0].depth_order
    heights = {int(m.findtext('attribute', '')): int(m.get('z_order', ''))
               for m in first.findall('mask')}  # fmt: skip
    assert [heights[i + 1] for i in range(8)] == (7 - order).tolist()


def test_shanghaitech_and_nwpu_have_a_point_per_person(tmp_path: Path) -> None:
    points = find_count_points(PEOPLE)
    assert points.shape == (8, 2) and np.isfinite(points).all()
    info = loadmat(write('shanghaitech', tmp_path) / 'GT_one.mat')['image_info'][0, 0][0, 0]
    assert info[0] == pytest.approx(points) and info[1].item() == 8
    empty = loadmat(write('shanghaitech', tmp_path) / 'GT_two.mat')['image_info'][0, 0][0, 0][0]
    assert empty.shape == (0, 2)
    folder = write('nwpu', tmp_path)
    assert (folder / 'counting.txt').read_text() == 'one 8\ntwo 0\n'
    row = (folder / 'localization.txt').read_text().splitlines()[0].split()
    assert row[:2] == ['one', '8']
    assert np.array(row[2:], int).reshape(-1, 2) == pytest.approx(np.rint(points))


def test_crowdhuman_has_visible_and_full_boxes(tmp_path: Path) -> None:
    lines = write('crowdhuman', tmp_path).read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row['ID'] for row in rows] == ['one', 'two'] and rows[1]['gtboxes'] == []
    for row, box in zip(rows[0]['gtboxes'], SCENE.boxes, strict=True):
        x, y, w, h = row['vbox']
        assert (x, y, x + w, y + h) == tuple(box.astype(int))
        fx, fy, fw, fh = row['fbox']
        assert fx <= x and fy <= y and fx + fw >= x + w and fy + fh >= y + h
    areas = [np.prod(r['vbox'][2:]) / np.prod(r['fbox'][2:]) for r in rows[0]['gtboxes']]
    assert np.corrcoef(areas, SCENE.visible_fractions)[0, 1] > 0.5


def test_fiftyone_and_label_studio(tmp_path: Path) -> None:
    samples = json.loads(write('fiftyone', tmp_path).read_text())['samples']
    detections = samples[0]['people']['detections']
    boxes = np.array([d['bounding_box'] for d in detections]) * ([WIDTH, HEIGHT] * 2)
    assert boxes[:, :2] == pytest.approx(SCENE.boxes[:, :2])
    assert len(samples[0]['poses']['keypoints'][0]['points']) == 17
    assert samples[1]['people']['detections'] == []
    tasks = json.loads(write('label-studio', tmp_path).read_text())
    assert [t['data']['image'] for t in tasks] == ['a/one.jpg', 'two.png']
    value = tasks[0]['predictions'][0]['result'][0]['value']
    assert value['width'] * WIDTH / 100 == pytest.approx(SCENE.boxes[0, 2] - SCENE.boxes[0, 0])


def test_other_formats_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='format must be one of cvat'):
        export('voc', IMAGES, tmp_path / 'x')
    assert len(FORMATS) == 6
