"""The Python entry with the embedded models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

from pipeline import LoadedPipeline, load_pipeline
from pipeline.io.images import as_image
from pipeline.io.records import people_to_record
from pipeline.synthetic.scene import SceneConfig, make_scene

HWC = torch.arange(4 * 5 * 3, dtype=torch.uint8).reshape(4, 5, 3)
TENSORS = {
    'channels last': (HWC, 'rgb', HWC),
    'channels first': (HWC.permute(2, 0, 1), 'rgb', HWC),
    'BGR': (HWC.permute(2, 0, 1).flip(0), 'bgr', HWC),
    'grey': (HWC[:, :, 0], 'rgb', HWC[:, :, :1].expand(4, 5, 3)),
    'one channel first': (HWC[None, :, :, 0], 'rgb', HWC[:, :, :1].expand(4, 5, 3)),
}


@pytest.mark.parametrize(('tensor', 'order', 'expected'), TENSORS.values(), ids=TENSORS)
def test_tensors(tensor: torch.Tensor, order: str, expected: torch.Tensor) -> None:
    np.testing.assert_array_equal(as_image(tensor, order), expected.numpy())  # type: ignore[arg-type]


def test_float_tensors_are_refused() -> None:
    with pytest.raises(ValueError, match=r'float32 \(4, 5, 3\); convert it to uint8: image \* 255'):
        as_image(HWC / 255)


@pytest.fixture(scope='module')
def model() -> LoadedPipeline:
    return load_pipeline(device='cpu', max_rounds=1, loop__min_score=0.0)


@pytest.fixture(scope='module')
def image() -> np.ndarray:
    config = SceneConfig(width=320, height=240, min_people=3, max_people=3, seed=1)
    return make_scene(config).image


def test_keywords_dicts_and_positions_are_the_same_settings(model: LoadedPipeline) -> None:
    options = {'loop.max_rounds': 1, 'loop.min_score': 0.0, 'runtime.device': 'cpu'}
    assert load_pipeline('bmp_compact', options).settings == model.settings
    named = load_pipeline(
        'bmp_compact', 'cpu', 'fp32', options | {'loop.max_rounds': 3}, max_rounds=1
    )
    assert named.settings == model.settings
    assert repr(named) == "LoadedPipeline('bmp_compact', device='cpu', precision='fp32')"


def test_every_way_to_pass_an_image_gives_the_same_people(
    model: LoadedPipeline, image: np.ndarray, tmp_path: Path
) -> None:
    path, bgr = tmp_path / 'a.png', image[..., ::-1]
    PIL.Image.fromarray(image).save(path)
    people = model(image)
    assert repr(people) == f'People({len(people)} people, image 240x320)' and len(people) > 1
    expected = people_to_record(people)
    for other in (
        model(bgr, channel_order='bgr'),
        model(torch.from_numpy(image).permute(2, 0, 1)),
        *model.predict_batch([path, path.read_bytes()]),
        *model.predict_stream(tmp_path),
    ):
        assert people_to_record(other) == expected
    assert people_to_record(model(bgr)) != expected


def test_selected_people_are_boxes_again(model: LoadedPipeline, image: np.ndarray) -> None:
    people = model(image)[:2]
    again = model(image, boxes=people.boxes)
    np.testing.assert_array_equal(again.boxes, people.boxes)
    assert again.plot().shape == image.shape
