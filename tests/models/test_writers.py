"""Lossless records and output files."""

from __future__ import annotations

import csv
import json
import os
from dataclasses import fields, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from pipeline.candidates import Candidates
from pipeline.io.atomic import atomic_file, write_json, write_text
from pipeline.io.dataset_writers import write_dataset_files
from pipeline.io.records import (
    MergeEntry,
    candidates_from_record,
    candidates_to_record,
    people_from_record,
    people_to_record,
)
from pipeline.io.writers import (
    WRITERS,
    FinishedImage,
    render_masks,
    render_mmpose,
    render_overlay,
)
from pipeline.masks import Masks
from pipeline.structures import People
from tests.run_fakes import make_people


def assert_same_people(people: People, others: People) -> None:
    assert people.image_shape == others.image_shape
    assert people.keypoint_set is others.keypoint_set
    for column in (field for field in fields(People) if not field.kw_only):
        a, b = getattr(people, column.name), getattr(others, column.name)
        assert len(a) == len(b), column.name
        if isinstance(a, Masks):
            assert all((a.dense(i) == b.dense(i)).all() for i in range(len(a))), column.name
        else:
            assert a.dtype == b.dtype and a.shape == b.shape, column.name
            assert a.tobytes() == b.tobytes(), column.name


# Records


@pytest.mark.parametrize('people', [People.empty(5, 9), *map(make_people, (0, 1, 2, 7))], ids=len)
def test_records_keep_every_bit(people: People) -> None:
    record = json.loads(json.dumps(people_to_record(people)))
    assert_same_people(people_from_record(record), people)
    height, width = people.image_shape
    assert record['image'] == {'height': height, 'width': width}
    assert len(record['people']) == len(people)


@pytest.mark.parametrize('mask_boxes', [False, True])
def test_records_keep_candidates_of_any_score(mask_boxes: bool) -> None:
    people = make_people(5)
    people = people.select(np.argsort(-people.scores))
    people = replace(people, masks=people.detector_masks)  # they overlap; one is empty
    candidates = Candidates(people, exclusive=True, mask_boxes=mask_boxes)
    for first in (None, float(people.scores[2]), 1.0):
        record = json.loads(json.dumps(candidates_to_record(candidates, first)))
        assert_same_people(people_from_record(record), candidates.keep(first))
        again = candidates_from_record(record)
        for score in (*people.scores.tolist(), None, 0.0, 1.0):
            assert_same_people(again.keep(score), candidates.keep(score))


def test_awkward_numbers_survive() -> None:
    people = make_people(4)
    awkward = np.array([1e-45, 9999999, -0.0, 0.1], np.float32)
    record = json.loads(json.dumps(people_to_record(replace(people, box_scores=awkward))))
    assert people_from_record(record).box_scores.tobytes() == awkward.tobytes()
    assert (
        people_to_record(replace(people, scores=np.full(4, 0.9, np.float32)))['people'][0]['score']
        == 0.9
    )


def test_records_refuse_nan_and_other_formats() -> None:
    people = make_people(2)
    broken = replace(people, scores=np.array([0.5, np.nan], np.float32))
    with pytest.raises(ValueError, match=r'people\.scores has NaN'):
        people_to_record(broken)
    with pytest.raises(ValueError, match="format 'x'"):
        people_from_record({'format': 'x'})


def test_record_is_readable() -> None:
    people = make_people(2)
    person = people_to_record(people)['people'][1]
    assert person['person_id'] == 2
    assert person['mask_source'] in ('sam', 'detector', 'box')
    assert len(person['prompts']) == 3
    assert np.shape(person['keypoints']) == (17, 2)
    assert person['mask']['size'] == [40, 60] and isinstance(person['mask']['counts'], str)


# Atomic files


def test_atomic_file_keeps_the_old_content_on_failure(tmp_path: Path) -> None:
    path = tmp_path / 'deep' / 'x.json'
    write_text(path, 'old')
    with pytest.raises(RuntimeError), atomic_file(path) as stream:
        stream.write(b'half')
        raise RuntimeError
    with pytest.raises(ValueError, match='Out of range float'):
        write_json(path, [float('nan')])
    assert path.read_text() == 'old'
    assert os.listdir(path.parent) == ['x.json']


def test_part_of_a_killed_process_is_replaced(tmp_path: Path) -> None:
    (tmp_path / '.x.json.part').write_text('half')
    write_json(tmp_path / 'x.json', {'a': 1})
    assert os.listdir(tmp_path) == ['x.json']
    assert (tmp_path / 'x.json').read_text() == '{"a": 1}\n'


@pytest.mark.parametrize('target', ['victim', 'absent'])
def test_a_link_at_the_temporary_name_is_not_followed(target: str, tmp_path: Path) -> None:
    (tmp_path / 'victim').write_text('mine')
    (tmp_path / '.x.json.part').symlink_to(tmp_path / target)
    write_json(tmp_path / 'x.json', {'a': 1})
    assert (tmp_path / 'victim').read_text() == 'mine'
    assert sorted(os.listdir(tmp_path)) == ['victim', 'x.json']
    assert not (tmp_path / 'x.json').is_symlink()


# One file per image


def no_image() -> np.ndarray:
    raise AssertionError('this writer needs no image')


def test_mask_png_holds_the_ids() -> None:
    people = make_people(3)
    pil_image = PIL.Image.open(BytesIO(render_masks(FinishedImage(people, no_image))))
    assert pil_image.mode == 'I;16'
    ids = np.asarray(pil_image)
    assert ids.shape == people.image_shape
    for person, i in zip(people_to_record(people)['people'], range(3), strict=True):
        assert ((ids == person['person_id']) == people.masks.dense(i)).all()
    assert ((ids == 0) == ~people.masks.union()).all()


def test_overlapping_masks_show_the_earlier_person() -> None:
    masks = Masks.from_dense(np.ones((2, 4, 5)), (4, 5))
    people = replace(make_people(2, 4, 5), masks=masks)
    png = render_masks(FinishedImage(people, no_image))
    assert (np.asarray(PIL.Image.open(BytesIO(png))) == 1).all()


def test_mmpose_json_is_like_that_of_mmpose() -> None:
    from mmpose.structures import utils

    people = make_people(2)
    content = json.loads(render_mmpose(FinishedImage(people, no_image)))
    assert content['meta_info']['keypoint_id2name']['5'] == 'left_shoulder'
    assert content['meta_info']['num_keypoints'] == 17
    first = content['instance_info'][0]
    assert first['bbox'] == [people.boxes[0].tolist()]
    assert first['bbox_score'] == float(people.box_scores[0])
    assert first['keypoints'] == people.keypoints[0].tolist()
    assert first['keypoint_scores'] == people.keypoint_scores[0].tolist()
    reference = utils.split_instances(people.to_data_sample().pred_instances)
    for a, b in zip(content['instance_info'], reference, strict=True):
        for key in ('keypoints', 'keypoint_scores', 'bbox', 'bbox_score'):
            assert np.allclose(a[key], b[key]), key
        assert set(b) <= set(a)


def test_other_keypoint_sets_have_no_coco_names() -> None:
    people = make_people(1)
    columns = {
        n: getattr(people, n)[:, :5]
        for n in ('keypoints', 'keypoint_scores', 'presence', 'visibility', 'prompts')
    }
    content = json.loads(render_mmpose(FinishedImage(replace(people, **columns), no_image)))
    assert content['meta_info']['keypoint_id2name']['4'] == 'keypoint_4'
    assert 'flip_indices' not in content['meta_info']


def test_overlay_is_a_jpeg_of_the_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(People, 'draw', lambda self, image, style: 255 - image)
    image = np.full((40, 60, 3), 55, np.uint8)
    jpeg = render_overlay(FinishedImage(make_people(1), lambda: image))
    pil_image = PIL.Image.open(BytesIO(jpeg))
    assert pil_image.format == 'JPEG' and pil_image.size == (60, 40)
    assert abs(int(np.asarray(pil_image)[0, 0, 0]) - 200) <= 2


def test_writers_do_not_share_a_folder() -> None:
    assert len({w.folder for w in WRITERS.values()} | {'predictions'}) == len(WRITERS) + 1


# One file per run


def entries() -> list[MergeEntry]:
    return [
        MergeEntry('a/1.jpg', 1, make_people(2)),
        MergeEntry('a/2.jpg', 2, People.empty(40, 60)),
        MergeEntry('b/ü, "1".jpg', 30, make_people(3, seed=1)),
    ]


def test_coco_files_fit_together(tmp_path: Path) -> None:
    import pycocotools.coco as coco_tools

    assert [p.name for p in write_dataset_files(tmp_path, ['coco'], entries())] == [
        'coco_results.json', 'coco_images.json',
    ]  # fmt: skip
    coco = coco_tools.COCO(str(tmp_path / 'coco_images.json'))
    assert {i: v['file_name'] for i, v in coco.imgs.items()} == {
        1: 'a/1.jpg', 2: 'a/2.jpg', 30: 'b/ü, "1".jpg',
    }  # fmt: skip
    assert (coco.imgs[1]['width'], coco.imgs[1]['height']) == (60, 40)
    loaded = coco.loadRes(str(tmp_path / 'coco_results.json'))
    assert len(loaded.anns) == 5
    mask = loaded.annToMask(loaded.loadAnns(loaded.getAnnIds(imgIds=[30]))[1])
    assert (mask.astype(bool) == entries()[2].people.masks.dense(1)).all()


def test_coco_annotations_are_read_by_pycocotools(tmp_path: Path) -> None:
    import pycocotools.coco as coco_tools

    people = make_people(3)
    blobs = np.zeros((3, 40, 60), bool)
    blobs[0, 3:20, 5:30] = blobs[1, 0:40, 40:60] = blobs[2, 30:39, 2:9] = True
    people = replace(people, masks=Masks.from_dense(blobs, (40, 60)))
    entry = MergeEntry('a.jpg', 7, people)
    empty = MergeEntry('b.jpg', 8, People.empty(40, 60))
    write_dataset_files(tmp_path, ['annotations'], [entry, empty])
    coco = coco_tools.COCO(str(tmp_path / 'coco_annotations.json'))
    assert list(coco.imgs) == [7, 8] and coco.cats[1]['name'] == 'person'
    for i, row in enumerate(coco.anns.values()):
        mask = coco.annToMask(row).astype(bool)
        assert (mask & blobs[i]).sum() / (mask | blobs[i]).sum() > 0.9
        flags = row['keypoints'][2::3]
        assert row['num_keypoints'] == np.count_nonzero(flags) and set(flags) <= {0, 1, 2}
        shown = (people.keypoint_scores[i] >= 0.3) & (people.presence[i] >= 0.3)
        assert [flag > 0 for flag in flags] == shown.tolist()
        assert row['area'] == blobs[i].sum() and row['iscrowd'] == 0


@pytest.mark.parametrize('task', ['bbox', 'segm', 'keypoints'])
def test_results_score_100_against_themselves(task: str, tmp_path: Path) -> None:
    """With its results as ground ground_truth, a run has an AP of 1 in pycocotools."""
    import pycocotools.coco as coco_tools
    import pycocotools.cocoeval as evaluation

    write_dataset_files(tmp_path, ['coco'], entries())
    results = json.loads((tmp_path / 'coco_results.json').read_text())
    ground_truth = json.loads((tmp_path / 'coco_images.json').read_text())
    for i, row in enumerate(results, 1):
        _, _, width, height = row['bbox']
        more = {'id': i, 'iscrowd': 0, 'num_keypoints': 17, 'area': width * height}
        ground_truth['annotations'].append(row | more)
    write_json(tmp_path / 'ground_truth.json', ground_truth)
    coco = coco_tools.COCO(str(tmp_path / 'ground_truth.json'))
    scorer = evaluation.COCOeval(coco, coco.loadRes(str(tmp_path / 'coco_results.json')), task)
    scorer.evaluate()
    scorer.accumulate()
    scorer.summarize()
    assert scorer.stats[0] == pytest.approx(1)


def test_csv_has_one_row_per_person(tmp_path: Path) -> None:
    write_dataset_files(tmp_path, ['csv'], entries())
    with (tmp_path / 'people.csv').open(newline='', encoding='utf-8') as stream:
        rows = list(csv.DictReader(stream))
    assert [(r['file_name'], r['person_id']) for r in rows] == [
        ('a/1.jpg', '1'), ('a/1.jpg', '2'),
        ('b/ü, "1".jpg', '1'), ('b/ü, "1".jpg', '2'), ('b/ü, "1".jpg', '3'),
    ]  # fmt: skip
    people = make_people(2)
    assert np.float32(rows[1]['x2']) == people.boxes[1, 2]
    assert np.float32(rows[1]['detector_y1']) == people.detector_boxes[1, 1]
    assert int(rows[1]['mask_area']) == people.masks.areas[1]
    assert np.float32(rows[1]['left_knee_y']) == people.keypoints[1, 13, 1]
    assert np.float32(rows[1]['nose_presence']) == people.presence[1, 0]
    assert np.float32(rows[1]['nose_visibility']) == people.visibility[1, 0]


def test_merged_files_without_images(tmp_path: Path) -> None:
    write_dataset_files(tmp_path, ['csv', 'coco'], [])
    assert json.loads((tmp_path / 'coco_results.json').read_text()) == []
    assert json.loads((tmp_path / 'coco_images.json').read_text())['images'] == []
    assert (tmp_path / 'people.csv').read_text().startswith('file_name,image_id,person_id,')


def test_nothing_merged_is_asked_for(tmp_path: Path) -> None:
    def refuse() -> Any:
        raise AssertionError('the entries must not be consumed')
        yield

    assert write_dataset_files(tmp_path, ['json', 'overlay'], refuse()) == []
    assert os.listdir(tmp_path) == []


def test_a_failure_leaves_the_old_files(tmp_path: Path) -> None:
    write_dataset_files(tmp_path, ['csv', 'coco'], entries())
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def broken() -> Any:
        yield entries()[0]
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_dataset_files(tmp_path, ['csv', 'coco'], broken())
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
