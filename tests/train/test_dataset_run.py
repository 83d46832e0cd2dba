"""Runs on data sets: shards, resume and results file."""

from __future__ import annotations

import json
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli.dataset_run import DatasetReport, DatasetRequest, run_dataset
from pipeline.cli.protocols import Protocol, load_protocol
from pipeline.evaluation.coco import score_files
from pipeline.io.progress import Reporter
from pipeline.io.results import info_path, read_results
from pipeline.io.shard import Shard
from tests.run_fakes import done_records, save_image, start_program, wait_for
from tests.toy_people import person, toy_annotations, write

ORACLE = Protocol('oracle')


def toy_set(folder: Path, number: int = 3) -> Path:
    """Make a data set of ``number`` images of 300 x 200 px with two or three people each."""
    content = toy_annotations() if number == 3 else {'images': [], 'annotations': []}
    for i in range(number if number != 3 else 0):
        image = {'id': i + 1, 'file_name': f'{i % 2}/{i}.png', 'height': 200, 'width': 300}
        content['images'].append(image)
        for x in (20, 110.5):
            row_id = len(content['annotations']) + 1
            content['annotations'].append(person(row_id, i + 1, [x, 30.25 + i, 60, 150]))
    for i, image in enumerate(content['images']):
        save_image(folder / image['file_name'], 20 + i, (300, 200))
    return write(folder / 'annotations.json', content)


def run(annotations: Path, out: Path, **options: Any) -> DatasetReport:
    request = DatasetRequest('bmp_compact', str(annotations), out, **{'protocol': ORACLE} | options)
    return run_dataset(request, load=load_protocol, reporter=Reporter())


def files(out: Path) -> tuple[bytes, bytes]:
    """Read the files that are equal after every way of running."""
    results = out / 'results.json'
    return results.read_bytes(), info_path(results).read_bytes()


def test_the_oracle_scores_one(tmp_path: Path) -> None:
    annotations = toy_set(tmp_path / 'data')
    report = run(annotations, tmp_path / 'out')
    assert report.results is not None and report.run.exit_code == 0
    metrics = score_files(report.results, annotations)
    for task in metrics.tasks.values():
        assert (task.ap, task.ap50, task.ar) == pytest.approx((1, 1, 1))
    assert metrics.mask_iou is not None
    assert (metrics.mask_iou.mean, metrics.mask_iou.people) == (pytest.approx(1), 5)


@pytest.mark.parametrize(
    ('file', 'tasks'),
    [
        ('dev/person_keypoints.json', {'bbox', 'segm', 'keypoints'}),
        ('dev/crowd_masks.json', {'bbox', 'segm'}),
        ('test_samples/ochuman/test_ochuman.json', {'bbox', 'segm', 'keypoints'}),
        ('test_samples/crowdpose/test_crowdpose.json', {'bbox', 'keypoints'}),
    ],
)
def test_the_oracle_scores_one_on_samples(
    file: str, tasks: set[str], samples: Path, tmp_path: Path
) -> None:
    report = run(samples / file, tmp_path)
    assert report.results is not None
    metrics = score_files(report.results, samples / file)
    assert set(metrics.tasks) == tasks
    assert [m.ap for m in metrics.tasks.values()] == pytest.approx([1] * len(tasks))


def test_rows_and_side_file(tmp_path: Path) -> None:
    annotations = toy_set(tmp_path / 'data')
    report = run(annotations, tmp_path / 'out')
    assert report.results is not None
    rows, info = read_results(report.results)
    assert [r['annotation_id'] for r in rows] == [0, 1, 3, 4, 5]  # 2 is a crowd region
    assert [r['image_id'] for r in rows] == [7, 7, 3, 3, 3]
    assert [r['annotation_id'] for r in rows if r['keypoints'] is None] == [5]
    assert info is not None
    assert (info.protocol, info.data_set, info.image_ids) == ('oracle', 'annotations', (7, 3, 9))
    assert info.config_text.endswith("# protocol: Protocol(name='oracle', gt_boxes=False, "
                                     'gt_masks=False)\n')  # fmt: skip
    assert 'shard' not in info_path(report.results).read_text()


@pytest.mark.parametrize('order', [(1, 2, 3), (3, 1, 2), (2,)])
def test_shards_end_with_the_same_bytes(order: Sequence[int], tmp_path: Path) -> None:
    annotations, out = toy_set(tmp_path / 'data', 7), tmp_path / 'out'
    for i in order:
        part = run(annotations, out, shard=Shard(i, 3))
        assert part.results is None and part.run.images == (3 if i == 1 else 2)
    whole = run(annotations, out)
    done = 7 if len(order) == 3 else 2
    assert (whole.run.resumed, whole.run.computed) == (done, 7 - done)
    run(annotations, tmp_path / 'single')
    assert files(out) == files(tmp_path / 'single')


def test_newer_records_of_shards_win(tmp_path: Path) -> None:
    annotations, out = toy_set(tmp_path / 'data', 7), tmp_path / 'out'
    run(annotations, out, protocol=ORACLE, cfg_options={'loop.max_rounds': 5})
    for i in (1, 2):
        run(annotations, out, shard=Shard(i, 2))
    assert run(annotations, out).run.resumed == 7


SLOW_RUN = """
import sys, time
from pathlib import Path
from pipeline.cli import protocols
from pipeline.cli.dataset_run import DatasetRequest, run_dataset
from pipeline.io.progress import Reporter
from pipeline.io.shard import Shard

class Slow(protocols.ProtocolPipeline):
    def __call__(self, *args):
        time.sleep(float(sys.argv[3]))
        return super().__call__(*args)

protocols.ProtocolPipeline = Slow
shard = Shard.parse(sys.argv[4]) if len(sys.argv) > 4 else None
request = DatasetRequest(
    'bmp_compact', sys.argv[1], Path(sys.argv[2]), protocols.Protocol('oracle'), shard=shard)
report = run_dataset(request, load=protocols.load_protocol, reporter=Reporter())
print(report.run.computed, report.run.resumed)
"""


def test_shards_side_by_side_one_of_them_killed(tmp_path: Path) -> None:
    annotations, out = toy_set(tmp_path / 'data', 12), tmp_path / 'out'
    shards = [start_program(SLOW_RUN, annotations, out, 0.2, f'{i}/2') for i in (1, 2)]
    folder = out / 'shards' / '2-of-2'
    wait_for(lambda: done_records(folder) >= 2, shards[1], 60)
    shards[1].send_signal(signal.SIGKILL)
    shards[1].communicate()
    assert shards[0].communicate()[0].split() == ['6', '0']
    before = done_records(folder)
    assert 2 <= before < 6
    resumed = start_program(SLOW_RUN, annotations, out, 0, '2/2')
    assert resumed.communicate()[0].split() == [str(6 - before), str(before)]
    whole = start_program(SLOW_RUN, annotations, out, 0)
    assert whole.communicate()[0].split() == ['0', '12']
    run(annotations, tmp_path / 'single')
    assert files(out) == files(tmp_path / 'single')


@pytest.mark.parametrize(
    ('harm', 'message'),
    [
        (lambda image: image.write_bytes(b'no image'), '3.jpg'),
        (Path.unlink, '3.jpg'),
        (
            lambda image: save_image(image, 30, (150, 100)),
            'the image has 150 x 100 px, its annotations 300 x 200',
        ),
    ],
    ids=['damaged', 'absent', 'of another size'],
)
def test_a_failing_image_is_listed_and_counted(harm: Any, message: str, tmp_path: Path) -> None:
    annotations = toy_set(tmp_path / 'data')
    harm(annotations.parent / '3.jpg')
    report = run(annotations, tmp_path / 'out')
    assert report.results is not None and report.run.exit_code == 1
    (failure,) = json.loads((tmp_path / 'out' / 'failures.json').read_text())
    assert message in failure['message'] or message in failure['input']
    metrics = score_files(report.results, annotations)
    assert metrics.info is not None and metrics.info.failed == ('3.jpg',)
    assert metrics.tasks['bbox'].ar == pytest.approx(2 / 5)
    assert metrics.mask_iou is not None and metrics.mask_iou.mean == pytest.approx(2 / 5)
    assert dict(metrics.lines())['failed images'].startswith('1,')


def test_a_limit_is_stated_and_scored(tmp_path: Path) -> None:
    annotations = toy_set(tmp_path / 'data', 7)
    report = run(annotations, tmp_path / 'out', limit=2)
    assert report.results is not None
    metrics = score_files(report.results, annotations)
    assert metrics.image_ids == (1, 2) and metrics.tasks['bbox'].ap == pytest.approx(1)
    assert 'only the first 2 of 7 images' in dict(metrics.lines())['note']


def without(*names: str) -> Any:
    def change(content: dict[str, Any]) -> None:
        for annotation in content['annotations']:
            for name in names:
                annotation.pop(name)

    return change


without_keypoints, without_masks = without('keypoints', 'num_keypoints'), without('segmentation')


def named(name: str) -> Any:
    def change(content: dict[str, Any]) -> None:
        content['images'][0]['file_name'] = name

    return change


@pytest.mark.parametrize(
    ('protocol', 'change', 'message'),
    [
        (Protocol('gt_boxes'), without_keypoints, 'is scored by keypoints'),
        (Protocol('gt_keypoints'), without_keypoints, 'no keypoints, which protocol gt_keypoints'),
        (Protocol('gt_keypoints'), without_masks, 'is scored by segm'),
        (Protocol('gt_boxes', gt_masks=True), without_masks, 'no masks, which --gt-masks'),
        (ORACLE, without('id'), 'an annotation of image 7 has no id, which protocol oracle needs'),
        (ORACLE, named('../7.jpg'), 'a path inside'),
        (ORACLE, named('3.jpg'), "another image has the file_name '3.jpg'"),
    ],
)
def test_errors_are_raised_before_models_load(
    protocol: Protocol, change: Any, message: str, tmp_path: Path
) -> None:
    annotations = toy_set(tmp_path / 'data')
    content = json.loads(annotations.read_text())
    change(content)
    write(annotations, content)
    request = DatasetRequest('bmp_compact', str(annotations), tmp_path / 'out', protocol)
    with pytest.raises(ValueError, match=message):
        run_dataset(request, load=None, reporter=Reporter())  # type: ignore[arg-type]
    assert not (tmp_path / 'out').exists()


def test_images_in_another_folder(tmp_path: Path) -> None:
    annotations = toy_set(tmp_path / 'data')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(ValueError, match=r'none of the 3 images .* set their folder with --images'):
        run(annotations, tmp_path / 'out', images=tmp_path / 'empty')


@pytest.mark.parametrize('text', ['0/2', '3/2', '1', 'a/b', '1/0', '-1/2', '1/2/3'])
def test_wrong_shards(text: str) -> None:
    with pytest.raises(ValueError, match='shard must be i/n'):
        Shard.parse(text)
