"""The side file of results, and the commands test.py and score.py."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli import score as score_tool
from pipeline.evaluation.coco import score_files
from pipeline.io.results import info_path
from tests.commands import exit_code
from tests.toy_people import write
from tests.train.test_dataset_run import toy_set


@pytest.fixture(scope='module')
def tool() -> Any:
    return importlib.import_module('pipeline.cli.test')


@pytest.fixture
def results(tmp_path: Path, tool: Any) -> Path:
    run_oracle(tool, tmp_path)
    return tmp_path / 'out' / 'results.json'


def run_oracle(tool: Any, folder: Path, *options: str) -> None:
    data = ['--data', str(toy_set(folder / 'data')), '--out-dir', str(folder / 'out')]
    assert tool.main(['bmp_compact', '--protocol', 'oracle', *data, *options]) == 0


def test_the_tool_runs_and_scores(
    tmp_path: Path, tool: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    run_oracle(tool, tmp_path, '--score', '--limit', '2')
    printed = capsys.readouterr().out
    for text in ('oracle: ground truth replayed', 'only the first 2 of 3', 'mean IoU', '100.0'):
        assert text in printed
    report = json.loads((tmp_path / 'out' / 'scores.json').read_text())
    assert report['metrics']['segm']['ap'] == pytest.approx(1)
    assert report['mask_iou'] == {'mean': pytest.approx(1), 'people': 5}
    assert report['made_with']['protocol'] == 'oracle'
    markdown = (tmp_path / 'out' / 'scores.md').read_text()
    assert '| keypoints AP | 100.0 | 100.0 | 100.0 | – | 100.0 | 100.0 |' in markdown
    assert '- protocol: oracle: ground truth replayed, no model' in markdown


def test_scoring_again_needs_the_results_alone(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert score_tool.main([str(results)]) == 0
    assert 'data set  annotations' in capsys.readouterr().out


def test_results_without_side_file(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    info_path(results).unlink()
    assert exit_code(score_tool.main, results) == 2
    assert 'ANNOTATIONS is required' in capsys.readouterr().err
    annotations = results.parents[1] / 'data' / 'annotations.json'
    assert score_tool.main([str(results), str(annotations)]) == 0
    assert 'not stated (no side file)' in capsys.readouterr().out


def test_other_annotations_are_noticed(results: Path) -> None:
    annotations = results.parents[1] / 'data' / 'annotations.json'
    assert score_files(results, annotations).remarks == ()
    content = json.loads(annotations.read_text())
    content['annotations'][0]['bbox'][0] += 1
    (remark,) = score_files(results, write(annotations, content)).remarks
    assert 'not the annotation file of the run' in remark


def edit_info(**changes: Any) -> Callable[[Path], None]:
    def edit(results: Path) -> None:
        info = json.loads(info_path(results).read_text())
        write(info_path(results), {k: v for k, v in (info | changes).items() if v is not ...})

    return edit


def edit_rows(change: Callable[[list[Any]], Any]) -> Callable[[Path], None]:
    def edit(results: Path) -> None:
        write(results, change(json.loads(results.read_text())))

    return edit


WRONG: dict[str, tuple[Callable[[Path], None], str]] = {
    'no JSON': (lambda r: info_path(r).write_text('{') and None, r'results\.info\.json: not a J'),
    'format': (edit_info(format='x'), r'not a side file of format'),
    'lacks a key': (edit_info(protocol=...), 'does not fit this version'),
    'unknown protocol': (edit_info(protocol='x'), 'does not fit this version'),
    'unknown image': (edit_info(image_ids=[7, 8]), '1 images of the run are not in the annot.*8'),
    'no list': (edit_rows(lambda rows: {}), 'results must be a list of dicts, got dict'),
    'no dict': (edit_rows(lambda rows: [*rows, 5]), 'result 5 must be a dict, got int'),
    'annotation twice': (
        edit_rows(lambda rows: [*rows, rows[0]]),
        'duplicate result for annotation 0',
    ),
    'unknown annotation': (
        edit_rows(lambda rows: [*rows, rows[0] | {'annotation_id': 77}]),
        '1 results name annotations that are not scored, e.g. 77',
    ),
    'no annotation id': (
        edit_rows(lambda rows: [{k: v for k, v in r.items() if k[:4] != 'anno'} for r in rows]),
        'a result for annotation of image 7 has no annotation_id',
    ),
}


@pytest.mark.parametrize(('harm', 'message'), WRONG.values(), ids=WRONG.keys())
def test_wrong_files_are_named(results: Path, harm: Callable[[Path], None], message: str) -> None:
    harm(results)
    with pytest.raises(ValueError, match=message):
        score_files(results, results.parents[1] / 'data' / 'annotations.json')


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--shard', '1/2', '--score'], '--score and --shard exclude each other'),
        (['--shard', '3/2'], 'shard must be i/n'),
        (['--protocol', 'gt_boxes', '--max-rounds', '2'], 'need --protocol loop, not gt_boxes'),
        (['--gt-boxes'], '--gt-boxes needs --protocol detected_keypoints'),
        (['--limit', '0'], 'not an integer >= 1'),
        (['--protocol', 'magic'], 'invalid choice'),
        (['--data', 'coco_val17'], "did you mean 'coco_val2017'"),
    ],
)
def test_wrong_arguments(
    arguments: list[str], message: str, tool: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(tool.main, 'bmp_compact', '--data', 'x', *arguments) == 2
    assert message in capsys.readouterr().err
