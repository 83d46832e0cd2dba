"""Other keypoints than COCO's 17, through NMS, prompts, scores, files and drawings."""

from __future__ import annotations

import dataclasses
import io
import json
from typing import Any

import numpy as np
import pytest

from pipeline.io.dataset_writers import CATEGORY, CocoImages, make_category
from pipeline.io.mmpose_json import mmpose_content
from pipeline.io.people_csv import PeopleCsv
from pipeline.io.records import MergeEntry, people_from_record, people_to_record
from pipeline.keypoints import (
    COCO_17,
    COCO_NAMES,
    COCO_SIGMAS,
    UNKNOWN_SIGMA,
    KeypointSet,
    keypoint_set_of,
)
from pipeline.nms import PoseNMSConfig, keep_distinct_poses
from pipeline.scores import ScoreConfig
from pipeline.segmenters.prompts import PromptConfig, make_prompts
from pipeline.structures import People
from pipeline.visualization.draw import draw_people
from pipeline.visualization.style import DrawingStyle
from tests.toy_people import people_in

FINGERS = tuple(f'finger_{i}' for i in range(4))
# COCO's keypoints last and in another order: only names may decide.
MIXED = KeypointSet(
    'mixed', (*FINGERS, *reversed(COCO_NAMES)), np.full(21, 0.1), ((0, 10), (4, 15)),
    ((255, 0, 0), (0, 0, 255)),
)  # fmt: skip
HAND = KeypointSet('hand', FINGERS, np.full(4, 0.03), ((0, 1), (1, 2), (2, 3)))
BOXES = [(10, 20, 100, 190), (120, 20, 220, 190)]


def people_of(kept: KeypointSet) -> People:
    people = people_in(BOXES, (200, 300), points=kept.num)
    return dataclasses.replace(people, keypoint_set=kept)


def permuted(kept: KeypointSet) -> People:
    """COCO people whose 17 keypoints are where `kept` has them; the others are useless."""
    people = people_in(BOXES, (200, 300))
    columns: dict[str, Any] = {}
    for name in ('keypoints', 'keypoint_scores', 'presence', 'visibility', 'prompts'):
        old = getattr(people, name)
        columns[name] = np.full((len(old), kept.num, *old.shape[2:]), 1, old.dtype)
        columns[name][:, kept.compared] = old
    return dataclasses.replace(people, **columns, keypoint_set=kept)


def test_names_decide_which_keypoints_the_loop_uses() -> None:
    assert [MIXED.names[k] for k in MIXED.compared] == list(COCO_NAMES)
    assert HAND.compared.tolist() == [0, 1, 2, 3] and not HAND.has_coco
    column = np.arange(21)[None]
    assert MIXED.view(column)[0].tolist() == list(range(20, 3, -1))
    scores = np.ones((2, 17), np.float32)
    assert COCO_17.view(scores) is scores  # bytes and memory order of COCO models stay


@pytest.mark.parametrize('max_oks', [0.3, 0.99])
def test_nms_and_prompts_equal_those_of_coco(max_oks: float) -> None:
    coco, mixed = people_in(BOXES, (200, 300)), permuted(MIXED)
    config = PoseNMSConfig(max_oks=max_oks)
    for first, second in zip(
        keep_distinct_poses(coco, coco, config), keep_distinct_poses(mixed, mixed, config),
        strict=True,
    ):  # fmt: skip
        np.testing.assert_array_equal(first, second)
    for method in ('k_most_visible', 'distance+confidence'):
        prompt = PromptConfig(num_keypoints=5, method=method, num_negative=2)
        one, other = (make_prompts(p, p, prompt) for p in (coco, mixed))
        np.testing.assert_array_equal(one.points, other.points)
        names = [[MIXED.names[k] for k in row if k >= 0] for row in other.keypoints]
        assert names == [[COCO_NAMES[k] for k in row if k >= 0] for row in one.keypoints]


def test_a_set_without_coco_is_compared_and_prompted_by_all_its_keypoints() -> None:
    people = people_of(HAND)
    config = PoseNMSConfig(max_oks=0.9)
    old, new = keep_distinct_poses(people, people, config)
    assert old.tolist() == [0, 1] and new.tolist() == []
    moved = dataclasses.replace(people, keypoints=people.keypoints + np.float32(20))
    assert len(keep_distinct_poses(people, moved, config)[1]) == 2  # small sigmas tell them apart
    prompts = make_prompts(people, people, PromptConfig(num_keypoints=9, method='distance'))
    assert sorted(prompts.keypoints[0].tolist()) == [0, 1, 2, 3]


def test_scores_are_those_of_the_compared_keypoints() -> None:
    from pipeline.instances import Instances, build_result
    from pipeline.masks import LogitMasks
    from pipeline.structures import Poses, Segments

    def scores(people: People) -> Any:
        names = [f.name for f in dataclasses.fields(Poses)]
        poses = Poses(**{name: getattr(people, name) for name in names})
        logits = LogitMasks.from_masks(people.masks, 1.0)
        segments = Segments(logits, people.mask_scores, people.mask_sources, people.prompts)
        found = Instances.from_round(1, poses, segments, poses)
        result = build_result(found, 'logits', 'mask', ScoreConfig())
        assert result.keypoint_set is people.keypoint_set
        return result.scores

    np.testing.assert_array_equal(scores(permuted(MIXED)), scores(people_in(BOXES, (200, 300))))


@pytest.mark.parametrize('kept', [MIXED, HAND], ids=lambda kept: kept.name)
def test_files_keep_every_keypoint(kept: KeypointSet) -> None:
    people = people_of(kept)
    record = json.loads(json.dumps(people_to_record(people)))
    again = people_from_record(record)
    assert people_to_record(again) == record
    for name in ('name', 'names', 'skeleton', 'bone_colours'):
        assert getattr(again.keypoint_set, name) == getattr(kept, name)
    # Rows of people keep the set.
    assert people.select(np.array([1])).concat(people).keypoint_set is kept

    row = people.to_coco()[0]
    category = make_category(kept)
    names = category['keypoints'] + category.get('extra_keypoints', [])
    numbers = np.reshape(row['keypoints'] + row.get('extra_keypoints', []), (-1, 3))
    assert sorted(names) == sorted(kept.names) and len(numbers) == kept.num
    order = [kept.names.index(name) for name in names]
    np.testing.assert_allclose(numbers[:, :2], people.keypoints[0, order], atol=0.01)
    assert (category['keypoints'] == list(COCO_NAMES)) == kept.has_coco

    label = people.to_coco_annotations(keypoint_threshold=0)[0]
    labels = np.reshape(label['keypoints'] + label.get('extra_keypoints', []), (-1, 3))
    np.testing.assert_array_equal(labels[:, :2], numbers[:, :2])
    assert set(labels[:, 2]) <= {1, 2}

    streams = io.StringIO(), io.StringIO()
    for writer in (PeopleCsv(streams[0]), CocoImages(streams[1])):
        writer.add(MergeEntry('a.jpg', 1, people))
        writer.close()
    header = streams[0].getvalue().splitlines()[0]
    assert all(f'{name}_visibility' in header for name in kept.names)
    assert json.loads(streams[1].getvalue())['categories'] == [category]
    meta = mmpose_content(people)['meta_info']
    assert meta['skeleton_links'] == [list(bone) for bone in kept.skeleton]
    assert (len(meta['sigmas']), meta['dataset_name']) == (kept.num, kept.name)


def test_coco_files_do_not_change() -> None:
    people = people_in(BOXES, (200, 300))
    assert 'keypoint_set' not in people_to_record(people)
    assert 'extra_keypoints' not in people.to_coco()[0] | CATEGORY
    assert make_category(COCO_17) == CATEGORY


def test_bones_have_the_colours_of_the_data_set() -> None:
    style = DrawingStyle(('skeletons',), 'none')
    grey = np.full((200, 300, 3), 90, np.uint8)

    def has(kept: KeypointSet, colour: tuple[int, int, int]) -> bool:
        drawn = draw_people(grey, people_of(kept), style)
        return bool((np.abs(drawn.astype(int) - colour).max(-1) < 30).any())

    for colour in MIXED.bone_colours:
        assert has(MIXED, colour)
        assert not has(dataclasses.replace(MIXED, bone_colours=()), colour)


def meta_of(names: tuple[str, ...], **more: Any) -> dict[str, Any]:
    return {'keypoint_id2name': {str(i): name for i, name in enumerate(names)}, **more}


def test_sets_of_models_are_read_from_their_metadata() -> None:
    assert keypoint_set_of(meta_of(COCO_NAMES)) is COCO_17
    read = keypoint_set_of(
        meta_of(
            FINGERS, dataset_name='hand', sigmas=HAND.sigmas, skeleton_links=[[0, 1]],
            skeleton_link_colors=np.array([[1, 2, 3]]),
        )
    )  # fmt: skip
    assert (read.name, read.skeleton, read.bone_colours) == ('hand', ((0, 1),), ((1, 2, 3),))
    assert set(keypoint_set_of(meta_of(FINGERS, sigmas=[])).sigmas) == {UNKNOWN_SIGMA}
    assert UNKNOWN_SIGMA == pytest.approx(COCO_SIGMAS.mean())
    with pytest.raises(ValueError, match='names a keypoint twice: thumb, thumb'):
        keypoint_set_of(meta_of(('thumb', 'thumb')))


def test_counts_must_agree() -> None:
    with pytest.raises(ValueError, match='4 keypoints, but the keypoint set mixed has 21'):
        dataclasses.replace(people_of(HAND), keypoint_set=MIXED)
    unnamed = people_in(BOXES, (200, 300), points=23).keypoint_set
    assert (unnamed.names[:17], unnamed.names[22]) == (COCO_NAMES, 'keypoint_22')
    assert people_in(BOXES, (200, 300), points=5).keypoint_set.names[4] == 'keypoint_4'
