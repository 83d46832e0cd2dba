"""The files of a report: figures, hostile names, missing and damaged parts."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.candidates import Candidates
from pipeline.cli import report
from pipeline.io.writers import FinishedImage, render_rounds
from pipeline.masks import Masks
from pipeline.report.describe import crowding, describe_people, find_occlusions, outline
from pipeline.report.write import readable, to_script
from tests.commands import exit_code
from tests.report_files import make_run, read_data, read_index
from tests.run_fakes import save_image
from tests.toy_people import people_in, toy_annotations, toy_results, write

pytestmark = pytest.mark.usefixtures('plain_drawing')


def test_report_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = make_run(tmp_path)
    assert str(out / 'report' / 'index.html') in capsys.readouterr().out.replace('\n', '')
    index = read_index(out / 'report')
    assert index['title'] == 'Report of out' and index['config'] == 'a = 1\n'
    *images, failed = index['images']
    assert [row['name'] for row in images] == ['1.jpg', '1.png', 'a/1.jpg', 'b/1.jpg']
    assert failed['failure'] == 'RuntimeError: no luck' and failed['name'].endswith('bad.png')
    record = json.loads((out / 'predictions' / '1.png.json').read_bytes())
    assert images[1]['people'] == 3
    assert images[1]['low'] == pytest.approx(min(p['score'] for p in record['people']), abs=1e-3)
    assert images[1]['fallback'] == sum(p['mask_source'] != 'sam' for p in record['people'])
    assert sum(n for _, n in index['charts'][0]['bars']) == 4  # images
    assert [sum(n for _, n in chart['bars']) for chart in index['charts'][1:]] == [12, 12, 12]
    assert dict(index['facts'])['weights of net'] == 'abc'
    data = read_data(out / 'report', 1)
    assert data['size'] == [60, 40] and (out / 'report' / data['image']).is_file()
    (side,) = data['sides']
    assert [p['round'] for p in side['people']] == [p['round'] for p in record['people']]
    assert [p['prompts'] for p in side['people']] == [p['prompts'] for p in record['people']]


def test_one_file_is_small_and_has_all(tmp_path: Path) -> None:
    out = make_run(tmp_path)
    page = tmp_path / 'one.html'
    assert report.main([str(out), '--out', str(page)]) == 0
    text = page.read_text()
    assert len(text) < 2e6 and 'data:image/jpeg' in text
    assert len(read_index(page)['images']) == 5
    for outside in ('http:', 'https:', 'src="data/', '@import', 'url('):
        assert outside not in text, outside


HOSTILE = [
    ('tag', '<script>alert(1)</script>', '<script>alert(1)</script>'),
    ('end of the script', '</script><img src=x onerror=alert(1)>', None),
    ('comment', '<!--<script>', None),
    ('right to left', 'a\u202egpj.exe', 'a\N{REPLACEMENT CHARACTER}gpj.exe'),
    ('newline', 'a\nb', 'a\N{SYMBOL FOR LINE FEED}b'),
    ('no Unicode', 'a\udcff', 'a\N{REPLACEMENT CHARACTER}'),
    ('quotes', '"onload="x\'', None),
    ('long', 'x' * 90_000, 'x' * 2000),
    ('formula', "=cmd|' /C calc'!A0", None),
]


@pytest.mark.parametrize(('text', 'shown'), [h[1:] for h in HOSTILE], ids=[h[0] for h in HOSTILE])
def test_texts_are_data(
    text: str, shown: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # pytest-xdist cannot send a log with what is no Unicode.
    monkeypatch.setattr(logging.root.manager, 'disable', logging.CRITICAL)
    assert readable(text) == (text if shown is None else shown)
    script = to_script({'name': text})
    assert script.isascii() and '<' not in script and json.loads(script)['name'] == text
    out = make_run(tmp_path)
    for name in ('run.json', 'failures.json', 'predictions/1.png.json'):
        path = out / name
        content = json.loads(path.read_bytes())
        if name == 'failures.json':
            content[0]['message'] = text
        else:
            content |= {'input': text, 'command': [text], 'versions': {text: text}}
        path.write_text(json.dumps(content))
    (out / 'config.py').write_text(text, errors='replace')
    assert report.main([str(out)]) == 0
    page = (out / 'report' / 'index.html').read_text()
    assert page.count('<script') == 2 and page.count('</script') == 2 and '<img' not in page
    index = read_index(out / 'report')
    assert readable(text) in [row['name'] for row in index['images']]


def test_damaged_and_missing_parts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = make_run(tmp_path)
    (out / 'predictions' / '1.jpg.json').write_text('{')
    (out / 'rounds' / '1.png.json').write_text('[1]')
    (tmp_path / 'images' / 'a' / '1.jpg').unlink()
    save_image(tmp_path / 'images' / 'b' / '1.jpg', size=(10, 10))
    for name in ('run.json', 'failures.json', 'config.py'):
        (out / name).unlink()
    assert report.main([str(out)]) == 0
    first, second, third, failed = read_index(out / 'report')['images']
    assert (first['name'], 'problem' in first) == ('1.png', False)
    assert 'name its folder: --images DIR' in second['problem']
    assert third['problem'] == 'the image is 10 x 10, the results say 60 x 40'
    assert 'damaged' in failed['failure']
    assert exit_code(report.main, tmp_path / 'images') == 2
    assert 'has no predictions/ and no videos/' in capsys.readouterr().err
    assert exit_code(report.main, out, '--compare', out) == 2
    assert 'need --gt ANNOTATIONS' in capsys.readouterr().err


@pytest.mark.parametrize('task', ['bbox', 'segm', 'keypoints'])
def test_ground_truth(task: str, tmp_path: Path) -> None:
    rows = toy_results(tmp_path)
    far = rows[4] | {'bbox': [0, 0, 10, 10], 'score': 0.2, 'segmentation': rows[3]['segmentation']}
    far['keypoints'] = [1.0] * 51
    results = write(tmp_path / 'a.json', [*rows[1:4], far])
    truth = write(tmp_path / 'truth.json', toy_annotations())
    args = [str(results), '--gt', str(truth), '--task', task, '--out', str(tmp_path / 'out')]
    assert report.main(args) == 0
    index = read_index(tmp_path / 'out')
    assert index['metrics']['rows'][0][0] == 'ap' and 0 < index['metrics']['rows'][0][1] < 1
    figures = dict((name, a) for name, a, _ in index['metrics']['rows'])
    assert sum(row['missed'] for row in index['images']) > 0
    assert sum(row['false'] for row in index['images']) == figures['false']
    data = [read_data(tmp_path / 'out', n) for n in range(3)]
    verdicts = [p['verdict'] for item in data for p in item['sides'][0]['people']]
    assert verdicts.count('hit') == figures['found']
    assert verdicts.count('false') == figures['false']
    missed = [truth['missed'] for item in data for truth in item['truth']]
    assert missed.count([True]) >= sum(row['missed'] for row in index['images'])


def test_rounds_are_recorded_and_found_again() -> None:
    people = people_in([(20, 20, 80, 180), (60, 30, 140, 180)], (200, 300))
    raw = Masks.from_boxes(people.boxes, (200, 300))
    painted = people.masks.select(np.array([0]))
    done = FinishedImage(people, lambda: np.zeros((200, 300, 3), np.uint8))
    assert json.loads(render_rounds(done)) == {}
    content = json.loads(
        render_rounds(replace(done, candidates=Candidates(people, True, True, raw, (painted,))))
    )
    assert Masks.from_rle(content['masks'], (200, 300)).areas.tolist() == raw.areas.tolist()
    assert Masks.from_rle(content['painted'], (200, 300)).areas.tolist() == painted.areas.tolist()
    assert find_occlusions(people, raw) == [[0, 1]]  # the first row has the disputed pixels
    first, second = describe_people(people, raw)
    assert second['raw_area'] > second['area'] and first['raw'] != ''


def test_outlines_and_crowding() -> None:
    box = np.ones((3, 5), bool)
    assert outline(box, np.array([10, 20])) == 'M10 20L10 22L14 22L14 20Z'
    assert outline(np.zeros((0, 0), bool), (0, 0)) == ''
    ring = np.ones((9, 9), bool)
    ring[3:6, 3:6] = False
    assert outline(ring, (0, 0)).count('M') == 2
    boxes: Any = np.array([(0, 0, 10, 10), (0, 0, 10, 5), (50, 50, 60, 60)], np.float32)
    assert crowding(boxes) == 0.5 and crowding(boxes[:1]) == 0
