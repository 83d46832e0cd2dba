"""Every reader of files of users: damaged files, and a call that reads one."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import PIL.Image
import pyarrow.parquet
import torch
from hypothesis.strategies import SearchStrategy
from mmengine.logging import HistoryBuffer

from pipeline.cli import (
    analyze_results,
    compare_results,
    convert_dataset,
    run,
    score,
    score_tracks,
    test,
)
from pipeline.cli.options import get_overrides
from pipeline.config import CONFIG_FOLDER, load_config
from pipeline.crowd.camera import load_camera, load_points
from pipeline.crowd.regions import load_regions
from pipeline.crowd.sources import read_tracks
from pipeline.io.annotations import load_boxes, load_image_ids
from pipeline.io.images import read_image
from pipeline.io.inputs import InputImage, find_images
from pipeline.io.records import (
    candidates_from_record,
    candidates_to_record,
    load_people,
    people_to_record,
)
from pipeline.openmmlab import read_model_config
from pipeline.scale.sources import list_items
from pipeline.segmenters.build_sam2 import build_sam2_model
from pipeline.structures import Detections
from pipeline.tracking.formats import POSETRACK_KEYPOINTS
from pipeline.video.reader import VideoReader
from pipeline.video.store import FrameStore
from pipeline.weights.loading import load_state
from pipeline.weights.manifest import MANIFEST, read_manifest
from projects.compact_models.packed.file import pack_images
from projects.compact_models.packed.images import ImagesOnDevice
from tests.fuzz import mutations as m
from tests.run_fakes import FakePipeline, contents, make_people, save_image
from tests.run_fakes import run as run_folder
from tests.toy_people import toy_annotations, toy_results
from tests.unit.test_convert import native, native_person
from tests.video_files import numbered, write_video


@dataclass(frozen=True)
class Reader:
    """Strategy of damaged files, and the call; it returns or raises."""

    cases: SearchStrategy[bytes]
    read: Callable[[Path], object]
    suffix: str = '.json'


def make_readers(folder: Path) -> dict[str, Reader]:
    """Readers by name; the files that they need beside the damaged one go to ``folder``."""
    for name in ('7.jpg', '3.jpg', '9.jpg'):
        PIL.Image.new('RGB', (300, 200)).save(folder / name)
    return {
        'image': Reader(m.changed_images(image_files()), read_image, '.img'),
        **json_readers(folder, toy_annotations(), toy_results(folder)),
        **run_readers(folder),
        **config_readers(),
        'checkpoint': Reader(m.changed_archives(checkpoints()), load_state, '.pth'),
        **video_readers(folder),
        **crowd_readers(),
        'table, CSV': Reader(m.changed_text(['file_name,id\na.jpg,1\nb/c.png,x\n']), table, '.csv'),
        'table, Parquet': Reader(m.changed_bytes([parquet_table(folder)]), table, '.parquet'),
        'manifest': Reader(m.changed_json(json.loads(MANIFEST.read_text())), read_manifest),
        'part file': Reader(
            m.changed_archives([part_file(folder)]),
            lambda path: ImagesOnDevice.load([path], 'cpu', threads=1),
            '.pt',
        ),
    }


def json_readers(folder: Path, truth: Any, rows: Any) -> dict[str, Reader]:
    """Annotations, results, side files, boxes and ids."""
    truth_file, rows_file, out = folder / 'truth.json', folder / 'rows.json', folder / 'out'
    truth_file.write_text(json.dumps(truth))
    rows_file.write_text(json.dumps(rows))
    names = [image['file_name'] for image in truth['images']]
    images = [InputImage(folder / name, name, folder) for name in names]
    info = {
        'format': 'bbox-mask-pose-results/1', 'protocol': 'loop', 'protocol_text': 'x',
        'from_truth': False, 'tasks': ['bbox', 'segm', 'keypoints'], 'data_set': 'd',
        'annotations': str(truth_file), 'annotations_sha256': '0', 'config': 'c',
        'config_text': 't', 'weights': {'a': 'b'}, 'precision': 'fp32', 'version': '1',
        'image_ids': [7, 3, 9], 'failed': [], 'notes': ['n'],
    }  # fmt: skip

    def boxes(path: Path) -> None:
        for found in load_boxes(path, images).by_image.values():
            Detections.from_boxes(found, (200, 300))

    def side_file(path: Path) -> None:
        (folder / 'side.json').write_bytes(rows_file.read_bytes())
        path.replace(folder / 'side.info.json')
        call(score.main, folder / 'side.json')

    def oracle(path: Path) -> None:
        call(
            test.main, 'bmp_compact', '--data', path, '--out-dir', out / 'test', '--protocol',
            'oracle', '--no-resume', '--images', folder,
        )  # fmt: skip

    def convert(name: str) -> Callable[[Path], None]:
        return lambda path: call(
            convert_dataset.main, name, path, out / f'{name}.json', '--overwrite'
        )

    documents: dict[str, tuple[Any, Callable[[Path], object]]] = {
        'boxes by name': ({name: [[1, 1, 50, 50]] for name in names}, boxes),
        'boxes, annotations': (truth, boxes),
        'boxes, results': (rows, boxes),
        'image ids': (truth, lambda path: load_image_ids(path, images)),
        'score, results': (rows, lambda path: call(score.main, path, truth_file)),
        'score, annotations': (truth, lambda path: call(score.main, rows_file, path)),
        'side file': (info, side_file),
        'compare': (rows, lambda path: call(
            compare_results.main, path, rows_file, truth_file, '--out', out)),
        'analyze': (rows, lambda path: call(
            analyze_results.main, path, truth_file, '--out', out / 'a')),
        'convert, COCO': (truth, convert('coco')),
        'convert, OCHuman': (native(_1=[native_person()], _2=[]), convert('ochuman')),
        'test': (truth, oracle),
        'people': (people_to_record(make_people(2)), load_people),
    }  # fmt: skip
    return {name: Reader(m.changed_json(d), read) for name, (d, read) in documents.items()}


def run_readers(folder: Path) -> dict[str, Reader]:
    """Predictions of an earlier run, and list files."""
    images, whole, out = folder / 'run', folder / 'whole', folder / 'again'
    save_image(images / '1.png')
    (images / 'list.txt').write_text('1.png')
    run_folder(images, whole, save=['json', 'coco'])
    run_folder(images, out, save=['json', 'coco'])
    expected, record = contents(whole), out / 'predictions' / '1.json'
    earlier = json.loads(record.read_text())

    def resume(path: Path) -> None:
        path.replace(record)
        report, _ = run_folder(images, out, FakePipeline(), save=['json', 'coco'])
        assert report.exit_code == 0, report
        kept = json.loads(record.read_text(), parse_float=np.float32)
        if report.resumed:  # other valid values stay, such as another score
            assert kept == kept | candidates_to_record(candidates_from_record(kept), None), 'kept'
        else:
            assert contents(out) == expected, 'the files differ'

    def list_file(path: Path) -> None:
        for failure in find_images([f'@{path}'], downloads=folder / 'downloads').failures:
            assert failure.message and '\n' not in failure.message

    lines = '# list\n1.png\n*.png\n../run/1.png\nhttps://127.0.0.1:9/x.jpg\n'
    return {
        'earlier run': Reader(m.changed_json(earlier), resume),
        'list file': Reader(m.changed_text([lines]), list_file, '.txt'),
    }


def config_readers() -> dict[str, Reader]:
    """Pipeline configs, model configs, overrides and SAM configs."""
    pipelines = [path.read_text() for path in sorted(CONFIG_FOLDER.glob('bmp_*.py'))]
    models = [p.read_text() for p in sorted((CONFIG_FOLDER / 'compact').glob('*.py'))]
    sam = (CONFIG_FOLDER / 'compact/sam2.1_cspnext_compact.yaml').read_text()
    pairs = [
        'loop.max_rounds=2\ndetector.max_people=3\npose.ignorable=[a,b]\nruntime.device=cpu',
        'loop.score.pose=2\nsegmenter.prompt.method=distance\nloop.min_score=0.5',
        'detector.slices.grid=2x2\ndetector.person_class=person\nsegmenter.ignorable=(a,(b,c))',
    ]

    def overrides(path: Path) -> None:
        words = path.read_bytes().decode('utf-8', 'surrogateescape').split('\n')
        args = run.build_parser().parse_args(['a.jpg', '--cfg-options', *words])
        load_config('bmp_compact', get_overrides(args))

    def sam_config(path: Path) -> None:
        with torch.device('meta'):  # the size of a model is the choice of its author
            build_sam2_model(path, None, 'meta')

    return {
        'config': Reader(m.changed_text(pipelines), load_config, '.py'),
        'model config': Reader(
            m.changed_text(models), lambda path: read_model_config(str(path), 'mmdet'), '.py'
        ),
        'overrides': Reader(m.changed_text(pairs), overrides, '.txt'),
        'SAM config': Reader(m.changed_text([sam]), sam_config, '.yaml'),
    }


def video_readers(folder: Path) -> dict[str, Reader]:
    """Videos, chunks of predictions, and results and ground truth of tracks."""
    images = [numbered(i, 32, 48) for i in range(6)]
    videos = [
        write_video(folder / f'v.{suffix}', images, codec=codec, sound=0.2, sound_codec=sound)
        for suffix, codec, sound in (
            ('mp4', 'libx264', 'aac'), ('mkv', 'libx264', 'aac'), ('webm', 'libvpx-vp9', 'libopus'),
            ('avi', 'mpeg4', 'aac'),
        )
    ]  # fmt: skip
    mask = people_to_record(make_people(1))['people'][0]['mask']
    size = ' '.join(map(str, (*mask['size'], mask['counts'])))
    texts = {
        'boxes': '1,1,10,10,20,40,0.9,-1,-1,-1\n1,2,5,5,8,9,1,1,1\n3,1,12,10,20,40,0.9,-1,-1,-1\n',
        'masks': f'0 2001 2 {size}\n2 2001 2 {size}\n',
    }
    pose = {'image_id': 1, 'track_id': 3, 'keypoints': [5, 6, 1] * 17, 'bbox': [1, 1, 9, 9]}
    poses = {
        'images': [{'id': 1, 'file_name': '000001.jpg', 'vid_id': '7', 'is_labeled': True}],
        'annotations': [pose | {'id': 1, 'category_id': 1, 'scores': [0.5] * 17}],
        'categories': [{'id': 1, 'name': 'person', 'keypoints': list(POSETRACK_KEYPOINTS)}],
    }
    chunk = {'frame': 0, 'seconds': 0.0, 'track_ids': [1, 2], **people_to_record(make_people(2))}

    def score_both(task: str, right: Path) -> Callable[[Path], None]:
        def read(path: Path) -> None:
            call(score_tracks.main, path, right, '--task', task)
            call(score_tracks.main, right, path, '--task', task)

        return read

    readers = {
        'video': Reader(
            m.changed_bytes([path.read_bytes() for path in videos]),
            lambda path: [frame.image.shape for frame in VideoReader(path)],
            '.mp4',
        ),
        'chunk': Reader(
            m.changed_json(chunk),
            lambda path: FrameStore(path.rename(folder / '000000.jsonl').parent).read(0),
        ),
    }
    for task, text in texts.items():
        (right := folder / f'{task}.txt').write_text(text)
        readers[f'tracks, {task}'] = Reader(m.changed_text([text]), score_both(task, right), '.txt')
    (right := folder / 'poses.json').write_text(json.dumps(poses))
    return readers | {'tracks, poses': Reader(m.changed_json(poses), score_both('poses', right))}


def crowd_readers() -> dict[str, Reader]:
    """Cameras, regions and trajectories of crowds."""
    homography: dict[str, Any] = {
        'homography': [[0.01, 0, -1], [0, 0.02, 0.5], [0, 0.001, 1]],
        'direction': 'image_to_ground', 'axis_order': 'xy', 'unit': 'm',
    }  # fmt: skip
    projection: dict[str, Any] = {
        'intrinsics': [[800, 0, 320], [0, 800, 240], [0, 0, 1]], 'rotation': [1.9, 0, 0],
        'translation': [0, 1, 12], 'distortion': [0.1, 0.01], 'unit': 'm',
    }  # fmt: skip
    tsai = (
        '<Camera><Geometry dpx="0.02" dpy="0.02" sx="1.1"/><Intrinsic focal="5.5" kappa1="0.005" '
        'cx="322" cy="282"/><Extrinsic tx="-14" ty="-15" tz="39695" rx="1.75" ry="0.46" rz="0.02"/>'
        '</Camera>'
    )
    points = 'x_px,y_px,x_m,y_m\n0,0,0,0\n10,0,1,0\n0,10,0,1\n10,12,1,1.2\n5,5,0.5,0.5\n'
    square = [[0, 0], [4, 0], [4, 3], [0, 3]]
    petrack = (
        '# framerate: 25 fps\n# id frame x/m y/m z/m\n1 0 1.0 2.0 0\n1 1 1.1 2.0 0\n2 1 3 4 0\n'
    )

    def regions(kind: Literal['zones', 'lines']) -> Callable[[Path], object]:
        return lambda path: load_regions(path, kind)

    zone = {'name': 'door', 'unit': 'm', 'polygon': square, 'kind': 'zone'}
    line = {'name': 'gate', 'unit': 'px', 'points': square[:2]}
    return {
        'homography': Reader(m.changed_json(homography), load_camera),
        'projection': Reader(m.changed_json(projection), load_camera),
        'Tsai camera': Reader(m.changed_text([tsai]), load_camera, '.xml'),
        'point pairs': Reader(m.changed_text([points]), load_points, '.csv'),
        'zones': Reader(m.changed_json({'zones': [zone]}), regions('zones')),
        'lines': Reader(m.changed_json({'lines': [line]}), regions('lines')),
        'trajectories': Reader(m.changed_text([petrack]), read_tracks, '.txt'),
    }


def table(path: Path) -> None:
    """Read a table of images as the sources of a job."""
    list(list_items([str(path)]))


def parquet_table(folder: Path) -> bytes:
    """A table with the names and ids of images."""
    rows = pyarrow.table({'file_name': ['a.jpg', 'b/c.png'], 'id': [1, 2]})
    pyarrow.parquet.write_table(rows, folder / 'table.parquet')
    return (folder / 'table.parquet').read_bytes()


def call(main: Callable[[list[str]], int], *words: object) -> None:
    """Run a command."""
    main([str(word) for word in words])


def image_files() -> list[bytes]:
    """Small images in every format and several modes."""
    rng, files = np.random.default_rng(0), []
    pixels = PIL.Image.fromarray(rng.integers(0, 255, (24, 32, 3), np.uint8))
    kinds = ['JPEG RGB', 'JPEG L', 'JPEG CMYK', 'PNG RGB', 'PNG RGBA', 'PNG P', 'PNG I;16', 'PNG 1',
             'WEBP RGB', 'WEBP RGBA', 'BMP RGB', 'GIF P', 'TIFF RGB', 'TIFF F', 'TIFF I;16',
             'PPM RGB', 'JPEG2000 RGB', 'AVIF RGB']  # fmt: skip
    for kind in kinds:
        name, mode = kind.split()
        options = [{}]
        if name == 'JPEG':
            exif = PIL.Image.Exif()
            exif[0x0112] = 6
            options = [{'exif': exif}, {'progressive': True}]
        if name == 'TIFF':
            options = [{}, {'compression': 'tiff_deflate'}]
        for option in options:
            pixels.convert('L' if mode == 'I;16' else mode).convert(mode).save(
                stream := io.BytesIO(), name, **option
            )
            files.append(stream.getvalue())
    return files


def checkpoints() -> list[bytes]:
    """Checkpoints in both formats, with all that the reader knows."""
    state = {
        'a': torch.arange(60.0).reshape(3, 4, 5),
        'b.c': torch.ones(2).half(),
        'n': torch.tensor(3),
    }
    meta = {'k': np.float64(3), 'sizes': np.arange(6).reshape(2, 3), 'names': ('x', {'y'})}
    files: list[Any] = [
        state,
        {'state_dict': state, 'meta': meta, 'message_hub': {'loss': HistoryBuffer([1.0], [1])}},
        {'state_dict': {'w': torch.nn.Parameter(torch.ones(3, 3)).T}, 'counts': Counter([1, 1])},
    ]
    return [saved(content, new) for content in files for new in (True, False)]


def saved(content: Any, new: bool = True) -> bytes:
    """The file of a checkpoint."""
    torch.save(content, stream := io.BytesIO(), _use_new_zipfile_serialization=new)
    return stream.getvalue()


def part_file(folder: Path) -> bytes:
    """Packed images for the training of the compact models."""
    pack_images(toy_annotations(), folder, 64, 90).save(folder / 'part.pt')
    return (folder / 'part.pt').read_bytes()
