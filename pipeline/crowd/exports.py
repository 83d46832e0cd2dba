"""Exports to formats of annotation tools and of data sets; boxes and points are px of the image.

FiftyOne and Label Studio get plain JSON, so that neither needs to be installed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

from ..boxes import clip_boxes, xyxy_to_xywh
from ..io.atomic import write_bytes, write_json, write_text
from ..structures import People
from .attributes import find_heads, measure_people
from .occlusion import Bodies

Images = Sequence[tuple[str, People]]  # file name of an image and its people
HEAD_IN_BOX = 0.08  # of the height of a box, below its top: the middle of a head
FORMATS = {
    'cvat': '.xml', 'fiftyone': '.json', 'label-studio': '.json', 'shanghaitech': '', 'nwpu': '',
    'crowdhuman': '.odgt',
}  # fmt: skip


def find_count_points(people: People) -> npt.NDArray[np.float64]:
    """A point (N, 2) px per person, as counting data sets mark heads.

    It is the mean of the visible keypoints of the face, else the place of a head in the box.
    """
    boxes = people.boxes.astype(np.float64)
    heads = find_heads(Bodies.of(people))
    guess = np.stack(
        [boxes[:, [0, 2]].mean(1), boxes[:, 1] + HEAD_IN_BOX * (boxes[:, 3] - boxes[:, 1])], axis=1
    )
    return np.where(np.isfinite(heads), heads, guess)


def export(name: str, images: Images, path: Path) -> Path:
    """Write people in one of `FORMATS`.

    Args:
        name: of the format.
        images: file names and people.
        path: without a suffix, which is that of the format; a folder for ``shanghaitech`` and
            ``nwpu`` (``counting.txt`` and ``localization.txt``).

    Returns:
        The file or folder.

    Raises:
        ValueError: There is no such format.
    """
    if name not in FORMATS:
        raise ValueError(f'format must be one of {", ".join(FORMATS)}, got {name!r}')
    path = path.with_name(path.name + FORMATS[name])
    path.parent.mkdir(parents=True, exist_ok=True)
    if name == 'cvat':
        _write_cvat(images, path)
    elif name == 'shanghaitech':
        _write_shanghaitech(images, path)
    elif name == 'nwpu':
        _write_nwpu(images, path)
    elif name == 'crowdhuman':
        lines = (json.dumps(_crowdhuman_row(*image)) for image in images)
        write_text(path, ''.join(f'{line}\n' for line in lines))
    elif name == 'fiftyone':
        write_json(path, {'samples': [_fiftyone_sample(*image) for image in images]})
    else:
        write_json(path, [_label_studio_task(*image) for image in images])
    return path


def _write_cvat(images: Images, path: Path) -> None:
    """CVAT for images 1.1: a mask per person; the nearest has the highest z_order."""
    root = ElementTree.Element('annotations')
    ElementTree.SubElement(root, 'version').text = '1.1'
    for number, (name, people) in enumerate(images):
        height, width = people.image_shape
        element = ElementTree.SubElement(
            root, 'image', id=str(number), name=name, width=str(width), height=str(height)
        )
        table, _ = measure_people(people)
        for i, crop in enumerate(people.masks.crops):
            if not crop.size:
                continue
            left, top = people.masks.offsets[i].tolist()
            flat = crop.ravel()  # runs along the rows of the crop, zeros first
            edges = np.flatnonzero(np.diff(np.concatenate([[0], flat, [2]])))
            runs = np.diff(np.concatenate([[0], edges]))
            hidden = len(table.occluders[i]) > 0
            mask = ElementTree.SubElement(element, 'mask', {
                'label': 'person', 'source': 'auto', 'occluded': str(int(hidden)),
                'rle': ', '.join(map(str, runs.tolist())), 'left': str(left), 'top': str(top),
                'width': str(crop.shape[1]), 'height': str(crop.shape[0]),
                'z_order': str(len(people) - 1 - int(table.depth_order[i])),
            })  # fmt: skip
            ElementTree.SubElement(mask, 'attribute', name='person_id').text = str(i + 1)
    ElementTree.indent(root)
    write_text(path, ElementTree.tostring(root, 'unicode', xml_declaration=True) + '\n')


def _write_shanghaitech(images: Images, folder: Path) -> None:
    """``GT_<name>.mat`` per image: ``image_info[0, 0][0, 0][0]`` is (N, 2) x, y px."""
    from io import BytesIO

    from scipy.io import savemat

    folder.mkdir(parents=True, exist_ok=True)
    for name, people in images:
        points = find_count_points(people)
        info = np.empty((1, 1), [('location', object), ('number', object)])
        info[0, 0] = (points, np.array([[len(points)]], np.uint16))
        cell = np.empty((1, 1), object)
        cell[0, 0] = info
        buffer = BytesIO()
        savemat(buffer, {'image_info': cell})
        write_bytes(folder / f'GT_{Path(name).stem}.mat', buffer.getvalue())


def _write_nwpu(images: Images, folder: Path) -> None:
    """Lines ``id count`` and ``id count x1 y1 x2 y2 ...`` with whole px."""
    folder.mkdir(parents=True, exist_ok=True)
    counts, places = [], []
    for name, people in images:
        stem, points = Path(name).stem, np.rint(find_count_points(people)).astype(int)
        counts.append(f'{stem} {len(points)}\n')
        places.append(' '.join([stem, str(len(points)), *map(str, points.ravel().tolist())]) + '\n')
    write_text(folder / 'counting.txt', ''.join(counts))
    write_text(folder / 'localization.txt', ''.join(places))


def _crowdhuman_row(name: str, people: People) -> dict[str, Any]:
    """A line of an ``.odgt`` file; ``fbox`` is the box of mask and body, hidden parts included."""
    bodies = Bodies.of(people)
    visible = people.masks.boxes
    visible = np.where(people.masks.areas[:, None] > 0, visible, people.boxes)
    full = people.boxes.astype(np.float64).copy()
    for i in range(len(people)):
        window, body = bodies.draw(i, people.image_shape)
        if body.any():
            y, x = (axis + part.start for axis, part in zip(np.nonzero(body), window, strict=True))
            full[i, :2] = np.minimum(full[i, :2], (x.min(), y.min()))
            full[i, 2:] = np.maximum(full[i, 2:], (x.max() + 1, y.max() + 1))
    heads = find_heads(bodies)
    rows = []
    for i in range(len(people)):
        row: dict[str, Any] = {
            'tag': 'person',
            'vbox': _whole(visible[i]),
            'fbox': _whole(full[i]),
            'extra': {'box_id': i, 'occ': int(bool((full[i] != people.boxes[i]).any()))},
        }
        if np.isfinite(heads[i]).all() and np.isfinite(bodies.heights[i]):
            half = 0.065 * bodies.heights[i]
            row['hbox'] = _whole(np.concatenate([heads[i] - half, heads[i] + half]))
            row['head_attr'] = {'ignore': 0, 'occ': 0, 'unsure': 0}
        rows.append(row)
    return {'ID': Path(name).stem, 'gtboxes': rows}


def _fiftyone_sample(name: str, people: People) -> dict[str, Any]:
    """Sample of a FiftyOne JSON data set: boxes and keypoints relative to the image."""
    height, width = people.image_shape
    table, _ = measure_people(people)
    boxes = xyxy_to_xywh(clip_boxes(people.boxes, people.image_shape)) / (
        np.array([width, height] * 2)
    )
    detections = [
        {
            '_cls': 'Detection', 'label': 'person', 'bounding_box': boxes[i].tolist(),
            'confidence': float(people.scores[i]), 'index': i + 1,
            'attributes': {
                'depth_order': int(table.depth_order[i]),
                'visible_fraction': _or_none(table.visible_fraction[i]),
                'occluders': list(table.occluders[i]),
            },
        }
        for i in range(len(people))
    ]  # fmt: skip
    keypoints = [
        {
            '_cls': 'Keypoint', 'label': 'person', 'index': i + 1,
            'points': (people.keypoints[i] / (width, height)).tolist(),
            'confidence': people.keypoint_scores[i].tolist(),
        }
        for i in range(len(people))
    ]  # fmt: skip
    return {
        'filepath': name,
        'people': {'_cls': 'Detections', 'detections': detections},
        'poses': {'_cls': 'Keypoints', 'keypoints': keypoints},
    }


def _label_studio_task(name: str, people: People) -> dict[str, Any]:
    """Task with predictions: rectangles in percent of the image."""
    height, width = people.image_shape
    boxes = xyxy_to_xywh(clip_boxes(people.boxes, people.image_shape)) * (
        100 / np.array([width, height] * 2)
    )
    results = [
        {
            'id': f'person_{i + 1}', 'type': 'rectanglelabels', 'from_name': 'label',
            'to_name': 'image', 'original_width': width, 'original_height': height,
            'image_rotation': 0, 'score': float(people.scores[i]),
            'value': {
                **dict(zip(('x', 'y', 'width', 'height'), boxes[i].tolist(), strict=True)),
                'rotation': 0, 'rectanglelabels': ['person'],
            },
        }
        for i in range(len(people))
    ]  # fmt: skip
    score = float(people.scores.mean()) if len(people) else 0.0
    prediction = {'model_version': 'bbox-mask-pose', 'score': score, 'result': results}
    return {'data': {'image': name}, 'predictions': [prediction]}


def _whole(box: Any) -> list[int]:
    """Box xywh, whole px around a box xyxy."""
    x1, y1 = np.floor(box[:2]).astype(int).tolist()
    x2, y2 = np.ceil(box[2:]).astype(int).tolist()
    return [x1, y1, x2 - x1, y2 - y1]


def _or_none(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
