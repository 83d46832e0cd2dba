from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pipeline.datasets.coco_ground_truth import load_ground_truth
from pipeline.structures import Image, People
from pipeline.visualization.draw import draw_people
from pipeline.visualization.labels import estimate_face_boxes, text_colour
from pipeline.visualization.palette import PALETTE, choose_colours, oklab
from pipeline.visualization.style import LAYERS, DrawingStyle
from tests.toy_people import people_in

CROWD = [(x, 20 + x // 20, x + 60, 190) for x in range(5, 230, 22)]


def grey(height: int = 200, width: int = 300) -> Image:
    return np.full((height, width, 3), 90, np.uint8)


def only(*parts: str) -> DrawingStyle:
    layers = tuple(layer for layer in LAYERS if layer in parts)
    return DrawingStyle(layers, 'score' if 'labels' in parts else 'none')


def changed(image: Image, drawn: Image) -> np.ndarray:
    return (image != drawn).any(axis=2)


def test_input_is_not_modified_and_drawing_is_deterministic() -> None:
    image, people = grey(), people_in(CROWD, (200, 300))
    first, second = draw_people(image, people), people.draw(image)
    nothing = draw_people(image, People.empty(200, 300))
    np.testing.assert_array_equal(image, grey())
    np.testing.assert_array_equal(first, second)
    assert first.shape == image.shape and first.dtype == np.uint8
    assert not np.shares_memory(nothing, image)
    np.testing.assert_array_equal(nothing, image)


@pytest.mark.parametrize('part', ['boxes', 'masks', 'skeletons', 'labels'])
def test_parts_are_drawn_separately(part: str) -> None:
    image, people = grey(), people_in(CROWD, (200, 300))
    assert changed(image, draw_people(image, people, only(part))).any()
    without = only(*{*LAYERS, 'labels'} - {part})
    assert changed(draw_people(image, people), draw_people(image, people, without)).any()


@pytest.mark.parametrize('shape', [(1, 1), (2, 3), (9, 200), (30, 12)])
def test_tiny_images(shape: tuple[int, int]) -> None:
    height, width = shape
    boxes = [(0, 0, width, height), (width / 2, 0, width, height), (0, 0, 0, 0)]
    assert draw_people(grey(height, width), people_in(boxes, shape)).shape == (height, width, 3)


def test_odd_people_and_images_are_accepted() -> None:
    people = people_in([(20, 20, 80, 180), (20, 20, 80, 180)], (200, 300))
    assert people.masks.areas[1] == 0
    draw_people(grey(), dataclasses.replace(people, keypoint_scores=people.keypoint_scores * 0))
    outside = people_in([(-50, -40, 120, 260), (250, 150, 400, 300)], (200, 300))
    outside.keypoints[0, :4] = [(np.nan, 5), (1e9, 5), (-1e9, np.inf), (-40, -40)]
    strided = np.repeat(grey(), 2, axis=1)[:, ::2]
    strided.flags.writeable = False
    draw_people(strided, outside)


@pytest.mark.parametrize('points', [14, 23])
def test_other_numbers_of_keypoints(points: int) -> None:
    image, people = grey(), people_in(CROWD, (200, 300), points)
    assert changed(image, draw_people(image, people, only('skeletons'))).any()


WRONG: list[tuple[str, Any, str]] = [
    ('path', 'img.jpg', 'must be an array, got str; `plot` takes'),
    ('size', grey(100, 300), 'image is .100, 300.'),
    ('float', grey().astype(float), 'uint8 RGB, got float64'),
    ('one channel', grey()[..., 0], 'uint8 RGB'),
    ('alpha', np.zeros((200, 300, 4), np.uint8), 'uint8 RGB'),
]


@pytest.mark.parametrize(('image', 'reason'), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG])
def test_invalid_images_are_rejected(image: Image, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        draw_people(image, People.empty(200, 300))


@pytest.mark.parametrize('name', ['alpha', 'keypoint_threshold'])
def test_invalid_style_is_rejected(name: str) -> None:
    with pytest.raises(ValueError, match=rf'DrawingStyle\.{name} must be in \[0, 1\], got 2'):
        DrawingStyle(**{name: 2})


def test_ids_differ_from_scores_and_unknown_choices_are_named() -> None:
    image, people = grey(), people_in(CROWD[:1], (200, 300))
    ids, none = DrawingStyle((), 'id'), DrawingStyle((), 'none')
    scores = draw_people(image, people, only('labels'))
    assert changed(draw_people(image, people, ids), scores).any()
    np.testing.assert_array_equal(draw_people(image, people, none), image)
    for wrong in ({'layers': ('mask',)}, {'labels': 'name'}):
        with pytest.raises(ValueError, match='boxes, masks, skeletons and labels one of none'):
            DrawingStyle(**wrong)  # type: ignore[arg-type]


def test_masks_change_only_their_pixels() -> None:
    image, people = grey(), people_in([(20, 20, 80, 180), (200, 40, 260, 180)], (200, 300))
    touched = changed(image, draw_people(image, people, only('masks')))
    inside = people.masks.union()
    assert touched[inside].all()
    around = cv2.dilate(inside.astype(np.uint8), np.ones((5, 5))).astype(bool)  # soft contour
    assert not touched[~around].any()


def test_keypoints_below_the_threshold_are_not_drawn() -> None:
    image, people = grey(), people_in([(20, 20, 80, 180)], (200, 300))
    low = dataclasses.replace(people, keypoint_scores=people.keypoint_scores * 0 + 0.29)
    absent = dataclasses.replace(people, presence=people.presence * 0 + 0.1)
    for hidden in (low, absent):
        assert not changed(image, draw_people(image, hidden, only('skeletons'))).any()
    style = dataclasses.replace(only('skeletons'), keypoint_threshold=0.2)
    assert changed(image, draw_people(image, low, style)).any()


def test_hidden_keypoints_are_hollow() -> None:
    people = people_in([(20, 20, 280, 780)], (800, 300))
    people.visibility[0, 15] = 0.4  # left ankle
    drawn = draw_people(grey(800, 300), people, only('skeletons'))
    x, y = people.keypoints[0].round().astype(int).T
    brightness = drawn[y, x].max(axis=1)
    assert brightness[15] < 60 and brightness[16] > 150


def test_overlapping_people_have_different_colours() -> None:
    colours = choose_colours(people_in(CROWD, (200, 300)).boxes)
    lab = oklab(colours)[:, 1:]
    apart = np.linalg.norm(lab[:, None] - lab[None], axis=2) + np.eye(len(lab))
    assert apart.min() > 0.05
    # Side by side, colours differ more than in general.
    assert apart[np.arange(len(lab) - 1), np.arange(1, len(lab))].min() > 0.15


def test_colours_repeat_only_far_away() -> None:
    one_position = np.tile(np.array([10, 10, 60, 180], np.float32), (20, 1))
    assert len(np.unique(choose_colours(one_position), axis=0)) == len(PALETTE) == 20
    boxes = np.array([(x, 0, x + 10, 20) for x in range(0, 800, 8)], np.float32)
    colours = choose_colours(boxes)
    for colour in np.unique(colours, axis=0):
        rows = np.flatnonzero((colours == colour).all(axis=1))
        assert len(rows) == 1 or np.diff(rows).min() >= 5


def test_oklab_of_known_colours() -> None:
    # Values published with the colour space (white, and pure sRGB red).
    known = oklab(np.array([(255, 255, 255), (255, 0, 0)], np.uint8))
    np.testing.assert_allclose(known, [(1, 0, 0), (0.62796, 0.22486, 0.12585)], atol=1e-4)


TIGHT = [(x, 80, x + 24, 190) for x in range(60, 230, 16)]
TINY = [(100, 60, 112, 84)]  # its label stands beside it, with a line
PLACES = [
    ('tiny', TINY),
    ('middle', [(100, 60, 180, 190)]),
    ('top left', [(0, 0, 90, 190)]),
    ('right edge', [(240, 0, 300, 200)]),
    ('whole image', [(0, 0, 300, 200)]),
    ('beyond it', [(-60, -60, 360, 260)]),
    ('one above the other', [(100, 0, 180, 100), (100, 100, 180, 200)]),
    ('crowd', CROWD),
]


@pytest.mark.parametrize('boxes', [p[1] for p in PLACES], ids=[p[0] for p in PLACES])
def test_labels_do_not_cover_faces(boxes: list[tuple[int, int, int, int]]) -> None:
    image, people = grey(), people_in(boxes, (200, 300))
    labels = changed(image, draw_people(image, people, only('labels')))
    assert labels.any()
    if boxes == TINY:
        assert not labels[60:84, 100:112].any()
    check_faces_are_free(people, labels)


def test_every_text_is_readable_on_its_colour() -> None:
    def luminance(colour: Any) -> float:
        part = np.array(colour) / 255
        linear = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    rng = np.random.default_rng(0)
    for colour in (*PALETTE, *rng.integers(0, 256, (500, 3)).astype(np.uint8)):
        low, high = sorted((luminance(colour), luminance(text_colour(colour))))
        assert (high + 0.05) / (low + 0.05) >= 4.5


def test_every_person_of_a_crowd_has_a_label() -> None:
    image, people = (
        grey(),
        people_in(TIGHT, (200, 300)),
    )
    labels = draw_people(image, people, only('labels'))
    colours = choose_colours(people.boxes)
    assert len(colours) == 11
    for colour in colours:
        assert (labels == colour).all(axis=2).sum() > 50, colour


def test_box_is_dashed_where_the_mask_reaches_out() -> None:
    inside = people_in([(20, 20, 80, 180)], (200, 300))
    outside = dataclasses.replace(inside, boxes=inside.boxes + np.float32([0, 0, 0, -30]))
    plain = DrawingStyle(('boxes',), 'none')
    both = DrawingStyle(('boxes', 'masks'), 'none', alpha=0)
    for people, dashed in ((inside, False), (outside, True)):
        top, other = (changed(grey(), draw_people(grey(), people, s))[20] for s in (plain, both))
        assert top[20:80].all() and other[20:80].all() != dashed


def test_sides_and_widths_by_choice() -> None:
    people = people_in([(20, 20, 280, 780)], (800, 300))
    image, plain = grey(800, 300), DrawingStyle(('skeletons',), 'none')
    sides = draw_people(image, people, dataclasses.replace(plain, left_right=True))
    for colour in ((0, 255, 0), (255, 128, 0)):
        assert (sides == colour).all(axis=2).sum() > 200
        assert not (draw_people(image, people, plain) == colour).all(axis=2).any()
    thick = dataclasses.replace(plain, line_width=12)
    areas = [changed(image, draw_people(image, people, s)).sum() for s in (plain, thick)]
    assert areas[1] > 2 * areas[0]


@pytest.mark.parametrize('hide', ['faces', 'people', 'silhouettes'])
def test_hidden_people_cannot_be_recognised(hide: Any) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (200, 300, 3), np.uint8)
    people = people_in([(20, 20, 80, 180), (200, 40, 260, 180)], (200, 300))
    people = dataclasses.replace(people, masks=people.masks.select(np.array([0, 1])))
    drawn = draw_people(image, people, DrawingStyle((), 'none', hide=hide))
    box = estimate_face_boxes(people, people.keypoint_scores >= 0.3)[0].round().astype(int)
    face = drawn[box[1] : box[3], box[0] : box[2]].reshape(-1, 3)
    assert len(np.unique(face, axis=0)) < 40
    body = drawn[people.masks.window(0)][people.masks.crops[0]]
    assert (len(np.unique(body, axis=0)) < 300) == (hide != 'faces')
    np.testing.assert_array_equal(drawn[:, 120:160], image[:, 120:160])
    with pytest.raises(ValueError, match='hide is one of none, faces, people, silhouettes'):
        DrawingStyle(hide='all')  # type: ignore[arg-type]


def check_faces_are_free(people: People, labels: np.ndarray) -> None:
    boxes = estimate_face_boxes(people, people.keypoint_scores >= 0.3)
    for box in boxes.round().astype(int).clip(0):
        face = labels[box[1] : box[3], box[0] : box[2]]
        assert face.size == 0 or face.mean() < 0.15


def test_labels_of_crowds_do_not_cover_faces(samples: Path) -> None:
    for item in load_ground_truth(samples / 'dev' / 'person_keypoints.json'):
        image = cv2.imread(str(samples / 'dev' / 'images' / item.file_name))[..., ::-1]
        drawn = draw_people(image, item.people)
        assert changed(image, drawn).any() == bool(len(item.people))
        labels = changed(image, draw_people(image, item.people, only('labels')))
        check_faces_are_free(item.people, labels)
