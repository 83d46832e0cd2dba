"""Training data packed in files and on the device: packing, decoding, crops and their targets."""

from __future__ import annotations

import json
import math

import cv2
import numpy as np
import pycocotools.mask as coco_mask
import pytest
import torch
from mmengine.registry import DATASETS
from mmengine.runner import Runner
from torch.utils.data import DataLoader, default_convert

from projects.compact_models.packed import file as packed_file
from projects.compact_models.packed.colour import ColourJitter
from projects.compact_models.packed.crops import PackedCrops, choose_removed
from projects.compact_models.packed.file import Packed, pack_images
from projects.compact_models.packed.images import ImagesOnDevice
from projects.compact_models.packed.loop import WholeBatchStream
from projects.compact_models.tools import pack_images as tool

pytestmark = pytest.mark.usefixtures('mmengine_scope')

SIDE = 128
BACKGROUND = (60, 60, 60)
# BGR; each differs from the others and from the background by its strongest channels.
RED, GREEN, BLUE, YELLOW = (20, 20, 230), (20, 230, 20), (230, 20, 20), (20, 230, 230)
COLOURS = {'red': RED, 'green': GREEN, 'blue': BLUE, 'yellow': YELLOW}
# (height, width) of an image and its people: colour, x, y, w, h, kind of segmentation
IMAGES = (
    ((192, 256), (('red', 16, 32, 64, 120, 'polygon'), ('green', 96, 20, 48, 160, 'rle'),
                  ('blue', 160, 60, 80, 100, 'polygon'))),
    ((128, 64), (('red', 6, 10, 20, 90, 'rle'), ('green', 34, 30, 24, 80, 'empty'))),
    ((80, 96), (('blue', 10, 10, 30, 60, 'polygon'), ('red', 50, 14, 36, 60, 'text'),
                ('yellow', 42, 2, 6, 10, 'crowd'))),
    ((60, 60), ()),
)  # fmt: skip
STILL = {'brightness': 0, 'contrast': 0, 'saturation': 0, 'hue': 0, 'device': 'cpu'}


def segmentation_of(kind, box, size):
    x, y, w, h = box
    if kind == 'polygon':
        return [[x, y, x + w, y, x + w, y + h, x, y + h]]
    if kind == 'empty':
        return {'size': list(size), 'counts': [size[0] * size[1]]}
    bitmap = np.zeros(size, np.uint8, order='F')
    bitmap[y : y + h, x : x + w] = 1
    rle = coco_mask.encode(bitmap)
    return {**rle, 'counts': rle['counts'].decode()} if kind == 'text' else rle


def make_coco(folder):
    """Images of coloured rectangles, as PNG; the last one has no people."""
    images, annotations = [], []
    for number, (size, people) in enumerate(IMAGES, start=7):
        image = np.full((*size, 3), BACKGROUND, np.uint8)
        for colour, *box, kind in people:
            x, y, w, h = box
            image[y : y + h, x : x + w] = COLOURS[colour]
            annotations.append({
                'id': len(annotations), 'image_id': number, 'category_id': 1, 'bbox': box,
                'iscrowd': int(kind == 'crowd'), 'segmentation': segmentation_of(kind, box, size),
            })  # fmt: skip
        cv2.imwrite(str(folder / f'{number}.png'), image)
        images.append(
            {'id': number, 'file_name': f'{number}.png', 'height': size[0], 'width': size[1]}
        )
    categories = [{'id': 1, 'name': 'person'}]
    return {'images': images, 'annotations': annotations, 'categories': categories}


@pytest.fixture(scope='module')
def packed(tmp_path_factory):
    """The file of the images above."""
    folder = tmp_path_factory.mktemp('images')
    path = folder / 'part_00.pt'
    pack_images(make_coco(folder), folder, SIDE, 95).save(path)
    return path


def crops(packed, **settings):
    return PackedCrops([packed], **{'batch_size': 8, 'crop': 96, **STILL, **settings})


def batches(data, count):
    return [item for item, _ in zip(data, range(count), strict=False)]


def shows(pixels, colour):
    """Pixels (H, W) of the 3 x H x W image that are nearer to the colour than to the rest."""
    bgr = np.array(COLOURS[colour])
    strong = torch.from_numpy(bgr > 100)
    return pixels[strong].amin(0) - pixels[~strong].amax(0) > 105


def box_around(mask):
    y, x = mask.nonzero().T
    return torch.stack([x.min(), y.min(), x.max() + 1, y.max() + 1]).float()


def colour_at(pixels, box):
    """Name of the colour in the middle of a box; None: black or background."""
    x, y = ((box[:2] + box[2:]) / 2).long().tolist()
    names = [name for name in COLOURS if shows(pixels, name)[y, x]]
    return names[0] if names else None


# The file


def test_packing_shrinks_images_and_people(packed):
    data = Packed.load(packed)
    assert data.side == SIDE and len(data) == 4
    assert data.sizes.tolist() == [[96, 128], [128, 64], [80, 96], [60, 60]]
    assert data.ids.tolist() == [7, 8, 9, 10] and data.person_ends.tolist() == [3, 5, 8, 8]
    assert data.boxes[0].tolist() == [8, 16, 40, 76]
    assert data.boxes[3].tolist() == [6, 10, 26, 100]
    assert data.ignored.tolist() == [False] * 7 + [True]
    lengths = data.rle_ends.diff(prepend=torch.zeros(1, dtype=torch.int64))
    assert (lengths > 0).tolist() == [True] * 4 + [False] + [True] * 3
    counts = data.rle[lengths[0] : lengths[:2].sum()].numpy().tobytes()
    mask = coco_mask.decode({'size': [96, 128], 'counts': counts})
    assert mask[10:90, 48:72].all() and mask.sum() == 80 * 24


def test_a_file_comes_back_and_files_join(packed, tmp_path):
    data = Packed.load(packed)
    data.save(tmp_path / 'again.pt')
    again = Packed.load(tmp_path / 'again.pt')
    assert [path.name for path in tmp_path.iterdir()] == ['again.pt']
    twice = Packed.join([data, again])
    assert twice.person_ends.tolist() == [3, 5, 8, 8, 11, 13, 16, 16]
    for name in ('encoded', 'boxes', 'rle', 'ids'):
        assert torch.equal(getattr(data, name), getattr(again, name))
        assert torch.equal(getattr(twice, name), torch.cat([getattr(data, name)] * 2))
    images = ImagesOnDevice.load([packed, tmp_path / 'again.pt'], 'cpu', threads=2)
    for name in ('pixels', 'boxes', 'masks', 'is_person'):
        first, second = getattr(images, name).chunk(2)
        assert torch.equal(first, second)


@pytest.mark.parametrize(
    ('key', 'change', 'message'),
    [
        ('boxes', lambda t: None, "lacks the tensor 'boxes'"),
        ('sizes', lambda t: t.long(), "'sizes' must be torch.int32"),
        ('boxes', lambda t: t[:, :3], "'boxes' must be .* is torch.float32 "),
        ('ids', lambda t: t[1:], "'ids' has 3 rows, 'encoded_ends' 4"),
        ('rle_ends', lambda t: t - 1, "'rle_ends' must rise to"),
        ('person_ends', lambda t: t.flip(0), "'person_ends' must rise to 8"),
        ('sizes', lambda t: t * 2, "'sizes' must be in"),
        ('side', lambda t: t + 1, "'side' = 129"),
        ('side', lambda t: None, "'side' must be an int64 scalar"),
    ],
)
def test_a_wrong_file_is_named_with_its_key(packed, tmp_path, key, change, message):
    content = torch.load(packed, weights_only=True)
    changed = change(content.pop(key))
    path = tmp_path / 'wrong.pt'
    torch.save(content if changed is None else {**content, key: changed}, path)
    with pytest.raises(ValueError, match=f'wrong.pt: {message}'):
        Packed.load(path)


def test_what_is_no_packed_file_is_refused(tmp_path):
    path = tmp_path / 'text.pt'
    for content in (b'no tensors', b'PK\x03\x04\xf7', b'\x80\x02cos\nsystem\n'):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r'text.pt: no file of tensors'):
            Packed.load(path)
    torch.save([1], path)
    with pytest.raises(ValueError, match=r'text.pt: holds a list'):
        Packed.load(path)


def test_a_damaged_mask_is_named(packed, tmp_path):
    content = torch.load(packed, weights_only=True)
    torch.save({**content, 'rle': torch.full_like(content['rle'], 111)}, tmp_path / 'wrong.pt')
    with pytest.raises(ValueError, match='a mask of image 7 is damaged: counts of an RLE'):
        ImagesOnDevice.load([tmp_path / 'wrong.pt'], 'cpu')


def test_the_image_must_have_the_size_of_the_annotations(tmp_path):
    coco = make_coco(tmp_path)
    coco['images'][1]['width'] = 65
    with pytest.raises(ValueError, match=r'8.png is 64 x 128 px, the annotation file says 65'):
        pack_images(coco, tmp_path, SIDE, 80)
    with pytest.raises(ValueError, match='side = 130'):
        pack_images(coco, tmp_path, 130, 80)
    with pytest.raises(ValueError, match='quality = 0'):
        pack_images(coco, tmp_path, SIDE, 0)


# The tool


def test_the_tool_writes_parts_below_the_limit(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(packed_file, '_FILE_OVERHEAD', 6 * 1024)
    (tmp_path / 'coco.json').write_text(json.dumps(plain(make_coco(tmp_path))))
    out = tmp_path / 'packed'
    arguments = [str(tmp_path / 'coco.json'), str(out), '--images', str(tmp_path)]
    tool.main([*arguments, '--size', '128', '--max-mib', '0.008'])
    parts = sorted(out.iterdir())
    assert len(parts) > 1 and parts[0].name == 'part_00.pt'
    assert all(part.stat().st_size <= 0.008 * 2**20 for part in parts)
    ids = [number for part in parts for number in Packed.load(part).ids.tolist()]
    assert ids == [7, 8, 9, 10]
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(parts) and lines[0].startswith(f'{parts[0]}: ')
    assert len(ImagesOnDevice.load(parts, 'cpu')) == 4


def plain(coco):
    """The same with RLE counts as text, for JSON."""
    for annotation in coco['annotations']:
        rle = annotation['segmentation']
        if isinstance(rle, dict) and isinstance(rle['counts'], bytes):
            rle['counts'] = rle['counts'].decode()
    return coco


@pytest.mark.parametrize(
    ('files', 'arguments', 'message'),
    [
        ({}, [], 'there is no annotation file'),
        ({'coco.json': '[]'}, ['--images', 'none'], 'the folder of the images'),
        ({'coco.json': '{"images": []}'}, [], 'no list of objects "annotations"'),
        ({'coco.json': '{'}, [], 'not a JSON file'),
        ({'coco.json': '{"images": [], "annotations": []}'}, [], 'has no images'),
        ({'coco.json': '{}', 'out/part_00.pt': ''}, [], 'holds parts already'),
    ],
)
def test_the_tool_names_what_is_wrong(tmp_path, capsys, monkeypatch, files, arguments, message):
    monkeypatch.chdir(tmp_path)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    with pytest.raises(SystemExit):
        tool.main(['coco.json', 'out', '--images', '.', *arguments])
    assert message in capsys.readouterr().err


# On the device


def test_images_lie_at_the_top_left_with_fractions_of_masks(packed):
    images = ImagesOnDevice.load([packed], 'cpu', threads=2)
    assert images.pixels.shape == (4, 3, SIDE, SIDE) and images.pixels.dtype == torch.uint8
    assert (images.pixels[0, :, 96:] == 114).all() and (images.pixels[3, :, :, 60:] == 114).all()
    assert (images.pixels[0, :, 30, 20].int() - torch.tensor(RED)).abs().max() < 12
    assert images.boxes.shape == (4, 3, 4)
    assert images.is_person.sum(1).tolist() == [3, 2, 2, 0]
    assert images.is_ignored.nonzero().tolist() == [[2, 2]]
    assert images.mask_rows.tolist() == [[0, 1, 2], [3, -1, -1], [4, 5, -1], [-1, -1, -1]]
    # Red covers x 8..40 and y 16..76 px; red of the second image x 6..26 and y 10..100.
    assert images.masks.shape == (6, SIDE // 4, SIDE // 4)
    assert (images.masks[0, 4:19, 2:10] == 255).all()
    assert images.masks[0].sum() == 255 * 15 * 8
    assert images.masks[3, 5, 1].item() == images.masks[3, 2, 3].item() == 128
    assert images.masks[3, 2, 1].item() == 64


def test_the_smallest_of_too_many_people_are_ignored(packed):
    images = ImagesOnDevice.load([packed], 'cpu', max_people=1)
    assert images.is_person.tolist() == [
        [False, False, True], [False, True, False], [False, True, False], [False] * 3,
    ]  # fmt: skip
    assert images.is_ignored.sum(1).tolist() == [2, 1, 2, 0]
    assert (images.mask_rows >= 0).sum() == len(images.masks) == 2


# Crops


@pytest.mark.parametrize('flip', [0, 1])
@pytest.mark.parametrize('crop', [64, 160])
def test_boxes_and_masks_lie_where_the_pixels_are(packed, flip, crop):
    data = crops(packed, crop=crop, flip=flip, remove_prob=0)
    checked = masked = 0
    for item in batches(data, 12):
        pixels, targets = item['inputs'], item['data_samples']
        assert pixels.shape == (8, 3, crop, crop) and pixels.dtype == torch.float32
        assert not targets.painted.any()
        assert len(targets.masks) == targets.has_mask.sum()
        rows = {tuple(place): row for row, place in enumerate(targets.has_mask.nonzero().tolist())}
        for image, slot in targets.is_person.nonzero().tolist():
            box = targets.boxes[image, slot]
            name = colour_at(pixels[image], box)
            seen = shows(pixels[image], name)
            assert (box_around(seen) - box).abs().max() <= 1.5, (name, box)
            checked += 1
            if (image, slot) in rows:
                fraction = torch.nn.functional.avg_pool2d(seen[None].float(), 4)[0]
                mask = targets.masks[rows[image, slot]]
                assert mask.shape == fraction.shape and 0 <= mask.min() and mask.max() <= 1
                # A cell at the rim is an average over neighbours.
                assert (mask - fraction).abs().max() < 0.6
                assert mask.sum() == pytest.approx(fraction.sum().item(), rel=0.2, abs=4)
                masked += 1
    assert checked > 100 and 60 < masked < checked


def test_whoever_shows_is_a_target_or_ignored(packed):
    kinds = set()
    for item in batches(crops(packed, crop=32, scale=(0.5, 2), remove_prob=0), 40):
        targets = item['data_samples']
        assert not (targets.is_person & targets.is_ignored).any()
        entries = targets.is_person | targets.is_ignored
        assert not targets.boxes[~entries].any()
        assert not (targets.has_mask & ~targets.is_person).any()
        assert entries.any(0).all()  # trimmed to the fullest crop
        for image in range(8):
            for name in COLOURS:
                seen = shows(item['inputs'][image], name)
                if not seen.any() or (box_around(seen).view(2, 2).diff(dim=0) < 5).any():
                    continue
                near = (targets.boxes[image] - box_around(seen)).abs().amax(1) <= 1.5
                assert (near & entries[image]).sum() == 1
                is_ignored = targets.is_ignored[image, near].item()
                assert is_ignored or name != 'yellow'  # the crowd region
                kinds.add((name, is_ignored))
    assert {('yellow', True), ('red', False), ('green', False), ('blue', False)} <= kinds
    # A person of whom a narrow strip is left.
    assert kinds & {('red', True), ('green', True), ('blue', True)}


def test_small_images_lie_at_the_top_left_and_the_rest_is_grey(packed):
    item = next(iter(crops(packed, crop=192, flip=1, scale=(1, 1), remove_prob=0)))
    pixels = item['inputs']
    heights = []
    for image in pixels:
        is_grey = (image == 114).all(0)
        height = int((~is_grey).any(1).sum())
        width = int((~is_grey).any(0).sum())
        heights.append((height, width))
        assert not is_grey[:height, :width].any() and is_grey[height:].all()
    # Two epochs of four images.
    expected = [(96, 128), (128, 64), (80, 96), (60, 60)]
    assert sorted(heights[:4]) == sorted(heights[4:]) == sorted(expected)


def test_painted_people_are_black_and_no_targets(packed):
    data = crops(packed, crop=128, scale=(1, 1), remove_prob=1, brightness=0.3)
    whole = crops(packed, crop=128, scale=(1, 1), remove_prob=0, brightness=0.3)
    num_removed = set()
    for item, other in zip(batches(data, 8), batches(whole, 8), strict=True):
        targets, unpainted = item['data_samples'], other['data_samples']
        assert targets.painted.tolist() == (unpainted.is_person.sum(1) >= 2).tolist()
        gone = unpainted.is_person & ~targets.is_person
        num_removed |= set(gone.sum(1).tolist())
        assert targets.is_person.any(1)[unpainted.is_person.any(1)].all()
        assert not (gone & ~unpainted.has_mask).any()
        assert torch.equal(targets.is_ignored, unpainted.is_ignored)
        assert torch.equal(gone.any(1), targets.painted) and not targets.boxes[gone].any()
        assert len(targets.masks) == targets.has_mask.sum() == (unpainted.has_mask & ~gone).sum()
        stays = targets.has_mask[unpainted.has_mask]
        assert torch.equal(targets.masks, unpainted.masks[stays])
        is_black = (item['inputs'] == 0).all(1)
        assert not is_black[~targets.painted].any()
        for image, slot in unpainted.is_person.nonzero().tolist():
            x1, y1, x2, y2 = unpainted.boxes[image, slot].round().int().tolist()
            inside = is_black[image, y1 + 2 : y2 - 2, x1 + 2 : x2 - 2]
            assert inside.all() if gone[image, slot] else not inside.any()
    assert num_removed == {0, 1, 2}


def test_painted_over_people_are_ignored_or_keep_the_rest_of_the_mask(tmp_path):
    # The second person is half behind the first, the third wholly.
    boxes = ([16, 16, 64, 96], [48, 32, 64, 64], [24, 24, 16, 32])
    cv2.imwrite(str(tmp_path / 'image.png'), np.full((SIDE, SIDE, 3), 90, np.uint8))
    image = {'id': 1, 'file_name': 'image.png', 'height': SIDE, 'width': SIDE}
    people = [
        {'image_id': 1, 'bbox': box, 'segmentation': segmentation_of('rle', box, (SIDE, SIDE))}
        for box in boxes
    ]
    packed = tmp_path / 'part_00.pt'
    pack_images({'images': [image], 'annotations': people}, tmp_path, SIDE, 90).save(packed)
    data = crops(packed, batch_size=64, crop=128, scale=(1, 1), remove_prob=1)
    targets = next(iter(data))['data_samples']
    gone = ~(targets.is_person | targets.is_ignored)
    assert gone.any(0).all() and not targets.is_ignored[:, :2].any()
    assert torch.equal(targets.is_ignored[:, 2], gone[:, 0] & ~gone[:, 2])
    assert targets.boxes[targets.is_ignored].any(1).all()
    assert torch.equal(targets.has_mask, targets.is_person)
    row, slot = targets.has_mask.nonzero(as_tuple=True)
    areas = targets.masks[slot == 1].sum((1, 2)) * 16
    for behind, area in ((True, 64 * 32), (False, 64 * 64)):
        found = areas[gone[row[slot == 1], 0] == behind]
        assert len(found) > 5 and (found - area).abs().max() < 1


def test_a_proper_part_of_the_people_with_masks_is_chosen():
    generator = torch.Generator().manual_seed(0)
    is_person = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1]]).bool()
    has_mask = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0]]).bool()
    people, masks = is_person.repeat(2000, 1), has_mask.repeat(2000, 1)
    removed = choose_removed(people, masks, 0.3, generator)
    assert not (removed & ~masks).any()
    three, one, unknown, single = removed.view(2000, 4, 4).unbind(1)
    assert not one.any() and not unknown.any()
    assert three.sum(1).max() == 2 and len({tuple(row) for row in three.tolist()}) == 7
    for part in (three, single):
        assert 0.26 < part.any(1).float().mean() < 0.34
    counts = three.sum(1)
    assert (counts == 1).sum().item() == pytest.approx((counts == 2).sum().item(), rel=0.3)


def test_the_same_seed_gives_the_same_batches(packed):
    settings = {'brightness': 0.3, 'hue': 0.03, 'remove_prob': 0.5}
    first = crops(packed, **settings)
    runs = [batches(data, 3) for data in (first, first, crops(packed, **settings))]
    for one, other in ((runs[0], runs[1]), (runs[0], runs[2])):
        for a, b in zip(one, other, strict=True):
            assert torch.equal(a['inputs'], b['inputs'])
            assert torch.equal(a['data_samples'].boxes, b['data_samples'].boxes)
            assert torch.equal(a['data_samples'].masks, b['data_samples'].masks)
    changed = batches(crops(packed, seed=1, **settings), 1)
    assert not torch.equal(runs[0][0]['inputs'], runs[0][1]['inputs'])
    assert not torch.equal(runs[0][0]['inputs'], changed[0]['inputs'])


def test_scales_are_uniform_in_their_logarithm(packed):
    from projects.compact_models.packed.windows import Windows

    windows = Windows.draw(
        torch.tensor([[100, 200]]).expand(4000, 2), 64,
        scale=(0.5, 2), flip=0.25, generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    fractions = windows.scale.log2()
    assert -1 <= fractions.min() and fractions.max() <= 1 and abs(fractions.mean()) < 0.03
    assert 0.22 < windows.is_flipped.float().mean() < 0.28
    room = torch.tensor([200, 100]) * windows.scale[:, None] - 64
    assert (windows.offset >= 0).all() and (windows.offset <= room.clamp(min=0)).all()
    place = (windows.offset / room)[room.amin(1) > 1]
    assert ((place.mean(0) - 0.5).abs() < 0.03).all() and place.max() > 0.97


# Colours


def colours(**settings):
    jitter = ColourJitter(**{'brightness': 0, 'contrast': 0, 'saturation': 0, 'hue': 0, **settings})
    pixels = torch.tensor([[60.0, 90, 120], [100, 100, 100]]).T[None, :, None].repeat(300, 1, 1, 1)
    return pixels, jitter(pixels, torch.Generator().manual_seed(0))


def test_each_colour_change_keeps_what_it_should():
    pixels, changed = colours(brightness=0.3)
    factor = changed / pixels
    assert 0.7 <= factor.min() < 0.75 and 1.25 < factor.max() <= 1.3
    assert (factor.flatten(1).std(1) < 1e-5).all()
    luma = torch.tensor([0.114, 0.587, 0.299])
    for settings in ({'saturation': 0.5}, {'hue': 0.03}):
        pixels, changed = colours(**settings)
        torch.testing.assert_close(changed[..., 1], pixels[..., 1], atol=0.05, rtol=0)  # grey
        weighted = [(x[..., 0, 0] * luma).sum(1) for x in (pixels, changed)]
        torch.testing.assert_close(*weighted, atol=0.05, rtol=0)
        assert (changed - pixels).abs().amax() > 5
    pixels, changed = colours(contrast=0.3)
    before, after = ((x * luma[:, None, None]).sum(1).mean((1, 2)) for x in (pixels, changed))
    torch.testing.assert_close(before, after, atol=0.05, rtol=0)
    ratio = (changed[..., 0, 0] - changed[..., 0, 1]) / (pixels[..., 0, 0] - pixels[..., 0, 1])
    assert 0.7 <= ratio.min() < 0.75 and 1.25 < ratio.max() <= 1.301
    _, full_turn = colours(hue=0.5)
    assert full_turn[:, 0, 0, 0].max() > full_turn[:, 2, 0, 0].min() and not math.isnan(
        full_turn.sum().item()
    )


# Settings


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'batch_size': 0}, 'batch_size = 0'),
        ({'crop': 100}, 'crop = 100'),
        ({'crop': 0}, 'crop = 0'),
        ({'scale': (1.3, 0.5)}, r'scale = \(1.3, 0.5\)'),
        ({'scale': (0, 1)}, r'scale = \(0, 1\)'),
        ({'scale': (1,)}, r'scale = \(1,\)'),
        ({'flip': 1.5}, 'flip = 1.5'),
        ({'remove_prob': -0.1}, 'remove_prob = -0.1'),
        ({'min_side': -1}, 'min_side = -1'),
        ({'brightness': 2}, 'brightness = 2'),
        ({'contrast': -1}, 'contrast = -1'),
        ({'saturation': 1.1}, 'saturation = 1.1'),
        ({'hue': 0.6}, 'hue = 0.6'),
        ({'device': 'gpu'}, "device = 'gpu'"),
        ({'max_people': 0}, 'max_people = 0'),
        ({'paths': []}, r'paths = \[\]'),
        ({'paths': 'nothing/*.pt'}, "paths = 'nothing/"),
    ],
)
def test_wrong_settings_are_named(packed, settings, message):
    paths = settings.pop('paths', [packed])
    with pytest.raises(ValueError, match=message):
        PackedCrops(paths, **{'batch_size': 2, 'crop': 96, 'device': 'cpu', **settings})


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_a_missing_gpu_is_named(packed):
    with pytest.raises(ValueError, match="device = 'cuda' cannot be used"):
        PackedCrops([packed], batch_size=2, crop=96)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
def test_batches_are_made_on_the_gpu(packed):
    first, again = (batches(crops(packed, device='cuda', hue=0.03), 3) for _ in range(2))
    for a, b in zip(first, again, strict=True):
        targets = a['data_samples']
        assert a['inputs'].is_cuda and targets.boxes.is_cuda and targets.masks.is_cuda
        assert torch.equal(a['inputs'], b['inputs'])
        assert torch.equal(targets.masks, b['data_samples'].masks)


def test_mmengine_builds_a_loader_of_whole_batches(packed):
    cfg = {'type': 'PackedCrops', 'paths': str(packed.parent / 'part_*.pt'), 'batch_size': 2,
           'crop': 64, 'device': 'cpu'}  # fmt: skip
    assert isinstance(DATASETS.build(cfg), PackedCrops)
    loader = Runner.build_dataloader({
        'dataset': cfg, 'sampler': None, 'batch_size': None, 'num_workers': 0,
        'collate_fn': {'type': 'torch.utils.data.default_convert'},
    })  # fmt: skip
    item = next(iter(loader))
    assert item['inputs'].shape == (2, 3, 64, 64)
    assert item['data_samples'].boxes.shape[0] == 2


def test_loading_processes_are_refused(packed):
    loader = torch.utils.data.DataLoader(crops(packed), batch_size=None, num_workers=1)
    with pytest.raises(RuntimeError, match='num_workers = 0'):
        next(iter(loader))


def test_a_pass_can_begin_at_any_batch(packed):
    whole = crops(packed, batch_size=3)
    passed = batches(whole, 5)
    later = crops(packed, batch_size=3)
    later.first = 3
    for one, other in zip(passed[3:], batches(later, 2), strict=True):
        assert torch.equal(one['inputs'], other['inputs'])
    # Each image comes once per epoch, across the ends of batches too.
    images = torch.cat([whole._drawn(number) for number in range(len(whole.images))])
    epochs = images.reshape(3, -1).sort(1).values
    assert (epochs == torch.arange(len(whole.images))).all()


def test_a_training_loop_goes_on_with_the_next_batch(packed):
    loader = DataLoader(crops(packed, batch_size=2), batch_size=None, collate_fn=default_convert)
    through = WholeBatchStream(loader)
    expected = [next(through) for _ in range(4)][3]
    resumed = WholeBatchStream(loader)
    resumed.skip_iter(3)
    assert torch.equal(next(resumed)['inputs'], expected['inputs'])
    with pytest.raises(ValueError, match='cannot be counted'):
        WholeBatchStream(DataLoader([1, 2]))


def test_a_batch_without_a_known_mask(packed):
    data = crops(packed, batch_size=2, remove_prob=1.0)
    generator = torch.Generator().manual_seed(0)
    item = data.batch(torch.tensor([3, 3]), generator)  # no people
    targets = item['data_samples']
    assert item['inputs'].shape == (2, 3, 96, 96) and targets.masks.shape == (0, 24, 24)
    assert not targets.is_person.any() and not targets.painted.any()


def test_webp_is_smaller_and_reads_the_same(tmp_path):
    coco, root = make_coco(tmp_path), tmp_path
    parts = {suffix: pack_images(coco, root, SIDE, 80, suffix) for suffix in ('.jpg', '.webp')}
    decoded = []
    for suffix, part in parts.items():
        part.save(tmp_path / f'{suffix}.pt')
        decoded.append(ImagesOnDevice.load([tmp_path / f'{suffix}.pt'], 'cpu').pixels.float())
    assert (decoded[0] - decoded[1]).abs().mean() < 2
    with pytest.raises(ValueError, match='suffix'):
        pack_images(coco, root, SIDE, 80, '.gif')
