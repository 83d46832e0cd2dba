"""Files of public bug reports and of a fault campaign, by command: made here, and the collected."""

from __future__ import annotations

import copy
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from pipeline.cli import compare_results, convert_dataset, run, score, test
from tests.commands import exit_code
from tests.conftest import SAMPLES
from tests.run_fakes import FakePipeline, contents
from tests.toy_people import coco, toy_annotations, toy_results, write

pytestmark = pytest.mark.usefixtures('plain_drawing')

COLLECTED = SAMPLES.parent / 'cases'
Content = dict[str, Any]
YAML = """model:
  _target_: sam2.modeling.sam2_base.SAM2Base
  image_encoder: {_target_: sam2.build_sam.torch.load, f: x.pth, weights_only: false}
"""


def change(content: Any, section: str | None = None, number: int = 0, **values: Any) -> Any:
    """A copy of annotations or results with other values in one row."""
    content = copy.deepcopy(content)
    (content[section] if section else content)[number] |= values
    return content


def renumber(content: Any, category: int | str) -> Any:
    """A copy of annotations or results with another id of the person category."""
    content = copy.deepcopy(content)
    for row in content['annotations'] if isinstance(content, dict) else content:
        row['category_id'] = category
    return content


def make_cases(folder: Path) -> Path:
    """Write a file of each kind, under the names of the collected ones."""
    for name in ('boxes', 'score', 'fuzz'):
        (folder / name).mkdir(parents=True)
    truth, rows = toy_annotations(), toy_results(folder)
    files = {**box_files(), **score_files(truth, rows), **fuzz_files(truth, rows)}
    for name, content in files.items():
        (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    for name in ('0001', '0002'):
        PIL.Image.new('RGB', (320, 240)).save(folder / f'boxes/{name}.jpg')
    state = {'state_dict': {'a': torch.ones(2)}}
    torch.save(state | {'meta': [1]}, folder / 'fuzz/D_arch_meta_list.pth')
    sparse = {'state_dict': {'a': torch.eye(2).to_sparse()}}
    torch.save(sparse, folder / 'fuzz/D_arch_sparse.pth')
    torch.save(state | {'x': np.array([None])}, folder / 'fuzz/D_segfault_numpy_object_array.pth')
    return folder


def box_files() -> Content:
    images = [{'id': i, 'file_name': f'000{i}.jpg', 'width': 320, 'height': 240} for i in (1, 2)]
    people = [{'id': i, 'image_id': i, 'category_id': 1, 'bbox': [99, 40, 80, 160]} for i in (1, 2)]
    plain = coco(images, people)
    dog = {'id': 9, 'image_id': 1, 'category_id': 2, 'bbox': [0, 0, 50, 50]}
    far = [i | {'file_name': f'..\\..\\media\\{i["file_name"]}'} for i in images]
    return {
        'boxes/coco_same_id.json': change(plain, 'images', 1, id=1),
        'boxes/coco_id_null.json': change(plain, 'images', 0, id=None),
        'boxes/coco_Person.json': coco(images, [*people, dog]) | {
            'categories': [{'id': 1, 'name': 'Person'}, {'id': 2, 'name': 'dog'}]},
        'boxes/coco_categories_null.json': plain | {'categories': None},
        'boxes/coco_backslash2.json': coco(far, people),
        'boxes/results_class0.json': [row | {'category_id': 0} for row in people],
        'boxes/results_class1.json': people,
        'boxes/names_far.json': {'0001.jpg': [[5000, 40, 5080, 160]]},
    }  # fmt: skip


def score_files(truth: Any, rows: Any) -> Content:
    categories = [{'id': 0, 'name': 'person'}, {'id': 1, 'name': 'bicycle'}]
    other = {'image_id': 7, 'category_id': 1, 'score': 1, 'bbox': [200, 1, 9, 9]}
    boxes = [{k: r[k] for k in ('image_id', 'category_id', 'score', 'bbox')} for r in rows]
    short = {'size': [200, 300], 'counts': 'PQR1'}
    floats = copy.deepcopy(truth)
    for row in floats['images']:
        row['id'] = float(row['id'])
    text = renumber(truth, '1') | {'categories': [{'id': '1', 'name': 'person'}]}
    return {
        'score/gt.json': truth,
        'score/res.json': rows,
        'score/gt_zero_based_2class.json': renumber(truth, 0) | {'categories': categories},
        'score/res_zero_based_2class.json': [*renumber(boxes, 0), other],
        'score/res_rle_short.json': change(rows, segmentation=short),
        'score/res_rle_bytes_text.json': change(rows, segmentation=short | {'counts': "b'54'"}),
        'score/res_id_list.json': change(rows, image_id=[7]),
        'score/gt_float_ids.json': floats,
        'score/gt_seg_null.json': change(truth, 'annotations', segmentation=None),
        'score/gt_iscrowd_text.json': change(truth, 'annotations', iscrowd='0'),
        'score/gt_pedestrian.json': truth | {'categories': [{'id': 1, 'name': 'pedestrian'}]},
        'score/gt_categories_text_id.json': text,
    }


def fuzz_files(truth: Any, rows: Any) -> Content:
    def counts(value: str) -> Any:
        return change(rows, segmentation={'size': [200, 300], 'counts': value})

    info = {
        'format': 'bbox-mask-pose-results/1', 'protocol': 'oracle', 'protocol_text': 'x[/b]',
        'from_truth': False, 'tasks': ['bbox'], 'data_set': 'd[/red]x', 'annotations': 'a',
        'annotations_sha256': '0', 'config': 'c[/x]', 'config_text': 't', 'weights': {},
        'precision': 'fp32', 'version': '1', 'image_ids': [7, 3, 9], 'failed': [],
        'notes': ['n[/z]'],
    }  # fmt: skip
    deep = '[' * 100_000
    return {
        'fuzz/B_base_ann.json': truth,
        'fuzz/B_base_res.json': rows,
        'fuzz/B_cli_hang_res.json': counts('PQR1'),
        'fuzz/B_cli_accepted_empty_counts.json': counts(''),
        'fuzz/B_cli_traceback_counts.json': counts('o'),
        'fuzz/B_cli_segfault_polygon_ann.json': change(
            truth, 'annotations', segmentation=[[1e9, 0, 0, 1e9, 1, 1]]),
        'fuzz/B_coco_ids_list.json': {'images': [{'id': [1], 'file_name': '0001.jpg'}]},
        'fuzz/B_boxes_ann_1.json': deep,
        'fuzz/B_boxes_res_1.json': [{'image_id': True, 'bbox': [1, 2, 3, 4], 'category_id': 1}],
        'fuzz/B_boxes_map_1.json': {'other.jpg': [[1, 2, 3, 4]]},
        'fuzz/B_score_ann_1.json': truth | {'categories': [{'id': True, 'name': 'person'}]},
        'fuzz/B_score_res_1.json': counts('P`QPPPPPPPPPP0'),
        'fuzz/B_score_info_1.json': info | {'image_ids': [1, {'a': []}]},
        'fuzz/B_cmp_ann_1.json': change(truth, 'annotations', category_id=[{}]),
        'fuzz/B_cmp_res_1.json': change(rows, bbox=float('nan')),
        'fuzz/B_test_ann_1.json': change(truth, 'annotations', keypoints=[5, 10**400] * 17),
        'fuzz/B_record_1.json': {'format': 'bbox-mask-pose/2', 'people': [deep[:9]]},
        'fuzz/C_1.py': 'detector = dict(',
        'fuzz/D_sam2_yaml_torch_load.yaml': YAML,
        'fuzz/G_compare_traversal_ann.json': change(
            truth, 'images', 0, file_name='../boxes/0001.jpg'),
        'fuzz/G_rich_markup.json': rows,
        'fuzz/G_rich_markup.info.json': info,
    }  # fmt: skip


@pytest.fixture(scope='module', params=['made', 'collected'][: 1 + COLLECTED.is_dir()])
def cases(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = request.param == 'made'
    return make_cases(tmp_path_factory.mktemp('files') / 'cases') if made else COLLECTED


BOTH = 'boxes/0001.jpg boxes/0002.jpg'
BASE = 'fuzz/B_base_ann.json'
COMMANDS: dict[str, tuple[Callable[..., int], str]] = {
    'run': (run.main, '--out-dir OUT'),
    'load': (run.main, '--out-dir OUT'),  # with its models
    'test': (test.main, '--protocol oracle --out-dir OUT --images boxes --data'),
    'score': (score.main, ''),
    'compare': (compare_results.main, '--out OUT'),
    'convert': (convert_dataset.main, ''),
}
# Command, words (a * stands for each file), exit code, and what the command says.
ROWS: list[tuple[str, str, int, str]] = [
    ('score', 'score/res_zero_based_2class.json score/gt_zero_based_2class.json', 0, 'AP .* 100.0'),
    ('score', 'score/res_zero_based_2class.json score/gt.json', 2, 'are they counted from 0'),
    ('score', 'score/res_rle_*.json score/gt.json', 2, 'result 0 .*(cover|printed Python bytes)'),
    ('score', 'score/res_id_list.json score/gt.json', 2, r'image_id must be a number or text'),
    ('score', 'score/res.json score/gt_[cfps]*.json', 0, 'keypoints AP .* 100.0'),
    ('score', 'score/res.json score/gt_iscrowd_text.json', 2, "must be 0 or 1, got '0'"),
    ('convert', 'coco score/gt_iscrowd_text.json OUT/o.json', 2, "must be 0 or 1, got '0'"),
    ('run', f'{BOTH} --boxes boxes/results_class0.json', 2, 'all rows are left out: [12] of'),
    ('run', f'{BOTH} --coco-ids boxes/coco_same_id.json', 2, 'two images of this id'),
    ('run', f'{BOTH} --coco-ids boxes/coco_id_null.json', 2, 'number 0: the id must be'),
    ('run', f'{BOTH} --boxes boxes/coco_Person.json', 0, '2 images: 2 people'),
    ('run', f'{BOTH} --boxes boxes/coco_categories_null.json', 2, 'no list of objects "categor'),
    ('run', f'{BOTH} --boxes boxes/coco_backslash2.json', 0, '2 images: 2 people'),
    ('run', f'{BOTH} --boxes boxes/names_far.json', 1, 'is outside the image'),
    ('run', 'OUT/001.jpg OUT/1.jpg OUT/1.png --boxes boxes/results_class1.json', 2, 'can mean'),
    ('run', f'{BOTH} --boxes fuzz/B_boxes_*.json', 2, r'B_boxes_\w+\.json: '),
    ('run', f'{BOTH} --coco-ids fuzz/B_coco_ids_*.json', 2, 'two images|must be a number or text'),
    ('score', f'fuzz/B_cli_[aht]*.json {BASE}', 2, r'result \d+ \(image \d\): .*RLE'),
    ('test', 'fuzz/B_cli_segfault_polygon_ann.json bmp_compact', 2, 'beyond 1000000 px'),
    ('test', 'fuzz/B_test_ann_*.json bmp_compact', 2, 'annotation|none of the 4 images'),
    ('score', 'fuzz/B_base_res.json fuzz/B_score_ann_*.json', 2, r'B_score_ann_\w+\.json: '),
    ('score', f'fuzz/B_score_res*_*.json {BASE}', 2, 'result'),
    ('score', f'OUT/B_score_info*.json {BASE}', 2, r'info\.json.*(does not fit|nested)'),
    ('compare', 'fuzz/B_base_res.json fuzz/B_base_res.json fuzz/B_cmp_ann_*.json', 2, 'annotation'),
    ('compare', f'fuzz/B_cmp_res_*.json fuzz/B_base_res.json {BASE}', 2, 'result'),
    ('load', f'{BOTH} --config fuzz/C_*.py', 2, r'/fuzz/C_\d+\.py'),
    ('load', f'{BOTH} --cfg-options detector.checkpoint=fuzz/D_*.pth', 1, r'D_\w+\.pth'),
    ('load', f'{BOTH} --cfg-options segmenter.config=fuzz/D_*.yaml', 2, 'only model classes'),
    ('score', f'fuzz/G_rich_markup.json {BASE}', 0, r'c\[/x\]'),
]  # fmt: skip


@pytest.mark.parametrize(('command', 'words', 'code', 'message'), ROWS)
def test_files_that_failed(
    command: str,
    words: str,
    code: int,
    message: str,
    cases: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    if command != 'load':
        monkeypatch.setattr(run, 'load', lambda *_: FakePipeline())
    for name in ('001.jpg', '1.jpg', '1.png'):
        shutil.copy(cases / 'boxes/0001.jpg', tmp_path / name)
    for file in cases.glob('fuzz/B_score_info*'):
        shutil.copy(cases / 'fuzz/B_base_res.json', tmp_path / file.name)
        shutil.copy(file, tmp_path / f'{file.stem}.info.json')
    main, options = COMMANDS[command]
    for line in expand(f'{options} {words}'.split(), cases, tmp_path):
        capfd.readouterr()
        assert exit_code(main, *line) == code, line
        said = ''.join(capfd.readouterr()) + caplog.text
        assert re.search(message, said, re.DOTALL), (line, said)
        assert 'Traceback' not in said and '/tmp/tmp' not in said


def expand(words: list[str], cases: Path, out: Path) -> list[list[str]]:
    """Command lines with paths: one for each file of the word with a star."""
    lines: list[list[str]] = [[]]
    for word in words:
        key, _, name = word.rpartition('=')
        folder, pattern = (out, name[4:]) if name.startswith('OUT') else (cases, name)
        found = [p for p in folder.glob(pattern) if '.info' not in p.name] if '*' in word else []
        is_path = '/' in name or name in ('OUT', 'boxes')
        paths = sorted(map(str, found)) or [str(folder / pattern) if is_path else name]
        assert '*' not in paths[0]
        lines = [[*line, f'{key}={p}' if key else p] for line in lines for p in paths]
    return lines


def test_records_that_failed(cases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A damaged prediction of an earlier run is computed again."""
    monkeypatch.setattr(run, 'load', lambda *_: FakePipeline())
    words = cases / 'boxes/0001.jpg', '--out-dir', tmp_path
    assert exit_code(run.main, *words) == 0
    whole = contents(tmp_path)
    for path in cases.glob('fuzz/B_record*.json'):
        shutil.copy(path, tmp_path / 'predictions/0001.json')
        assert exit_code(run.main, *words) == 0
        assert contents(tmp_path)['coco_results.json'] == whole['coco_results.json']


def test_the_comparison_shows_no_picture_of_elsewhere(cases: Path, tmp_path: Path) -> None:
    rows = json.loads((cases / 'fuzz/B_base_res.json').read_text())
    boxes = [{k: row[k] for k in ('image_id', 'category_id', 'score', 'bbox')} for row in rows]
    results = write(tmp_path / 'boxes.json', boxes)
    truth = cases / 'fuzz/G_compare_traversal_ann.json'
    options = '--task', 'bbox', '--out', tmp_path / 'out', '--images', cases / 'score'
    assert exit_code(compare_results.main, results, results, truth, *options) == 0
    page = (tmp_path / 'out/index.html').read_text()
    assert 'data:image' not in page
