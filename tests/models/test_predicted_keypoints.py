"""Keypoints of a pose model in a COCO file."""

from __future__ import annotations

import json

import numpy as np
import PIL.Image
import pytest

from pipeline.cli import predict_keypoints
from pipeline.datasets.predicted_keypoints import (
    add_keypoints,
    build_detections,
    build_keypoint_fields,
)
from pipeline.io.progress import Reporter
from pipeline.structures import Poses
from tests.commands import exit_code

K = 17


def estimate(image, detections):
    """Keypoints at the corners of the boxes; visibility 0.9, 0.2, 0.2, ... and presence 1, 1, 0."""
    count = len(detections)
    points = np.repeat(detections.boxes[:, None, :2], K, axis=1).astype(np.float32)
    presence = np.tile(np.float32([1, 1] + [0] * (K - 2)), (count, 1))
    visibility = np.tile(np.float32([0.9, 0.2] + [0.2] * (K - 2)), (count, 1))
    return Poses(
        detections.boxes, detections.box_scores, detections.detector_masks,
        points, visibility, presence, visibility,
    )  # fmt: skip


class RecordingReporter(Reporter):
    """Records start and end."""

    def __init__(self):
        super().__init__()
        self.events = []

    def start(self, total):
        super().start(total)
        self.events.append(total)

    def stop(self):
        self.events.append('stop')


@pytest.fixture
def content(tmp_path):
    PIL.Image.new('RGB', (40, 30)).save(tmp_path / 'a.png')
    images = [
        {'id': number, 'file_name': name, 'height': 30, 'width': 40}
        for number, name in enumerate(('a.png', 'gone.png', 'not-needed.png'), start=1)
    ]
    labelled = [5, 5, 2] + [0] * 48
    rows = [
        {'id': 1, 'image_id': 1, 'bbox': [3, 4, 10, 12], 'segmentation': [[3, 4, 13, 4, 13, 16]]},
        {'id': 2, 'image_id': 1, 'bbox': [0, 0, 5, 5], 'keypoints': labelled},
        {'id': 3, 'image_id': 1, 'bbox': [0, 0, 40, 30], 'iscrowd': 1},
        {'id': 4, 'image_id': 2, 'bbox': [0, 0, 5, 5]},
        {'id': 5, 'image_id': 3, 'bbox': [0, 0, 5, 5], 'visibility': [0.5] * K},
    ]
    return {'images': images, 'annotations': rows}


def test_only_people_without_keypoints_are_changed(content, tmp_path):
    reporter, saved = RecordingReporter(), []
    problems = add_keypoints(content, tmp_path, estimate, reporter, lambda: saved.append(1))
    first, second, crowd, gone, predicted = content['annotations']
    assert first['keypoints'][:9] == [3, 4, 2, 3, 4, 1, 0, 0, 0]
    assert first['num_keypoints'] == 2 and first['visibility'][:2] == [0.9, 0.2]
    assert second['keypoints'][:3] == [5, 5, 2] and 'visibility' not in second
    assert 'keypoints' not in crowd and 'keypoints' not in gone
    assert predicted['visibility'] == [0.5] * K
    assert [problem.name for problem in problems] == ['gone.png']
    assert reporter.events[0] == 2 and reporter.events[-1] == 'stop' and saved


def test_detections_from_annotations(content):
    image = np.zeros((30, 40, 3), np.uint8)
    found = build_detections(content['annotations'][:2], image)
    assert found.boxes.tolist() == [[3, 4, 13, 16], [0, 0, 5, 5]]
    assert found.detector_masks.dense(0).sum() > 20
    assert not found.detector_masks.dense(1).any()
    assert len(list(build_keypoint_fields(estimate(image, found)))) == 2


def test_results_are_saved_after_an_error(content, tmp_path):
    saved = []

    def fail(image, detections):
        raise RuntimeError('out of memory')

    with pytest.raises(RuntimeError, match='out of memory'):
        add_keypoints(content, tmp_path, fail, RecordingReporter(), lambda: saved.append(1))
    assert saved == [1]


def test_command_rejects_invalid_input_and_resumes(content, tmp_path, monkeypatch, capsys):
    source, out = tmp_path / 'people.json', tmp_path / 'out.json'
    source.write_text(json.dumps(content))
    words = [str(source), str(out), '--images', str(tmp_path), '--config', 'bmp_compact']
    assert exit_code(predict_keypoints.main, *words[:2], '--images', tmp_path / 'no') == 2
    assert 'does not exist' in capsys.readouterr().err
    monkeypatch.setattr('pipeline.build.build_pose_estimator', lambda resolved: estimate)
    assert predict_keypoints.main(words) == 1
    assert '2 of 5 people' in capsys.readouterr().out
    assert exit_code(predict_keypoints.main, *words) == 2
    assert '--resume' in capsys.readouterr().err
    PIL.Image.new('RGB', (40, 30)).save(tmp_path / 'gone.png')
    assert predict_keypoints.main([*words, '--resume']) == 0
    rows = json.loads(out.read_text())['annotations']
    assert rows[3]['num_keypoints'] == 2
    source.write_text('{}')
    assert exit_code(predict_keypoints.main, *words, '--overwrite') == 2
    assert 'no list of objects "images"' in capsys.readouterr().err
