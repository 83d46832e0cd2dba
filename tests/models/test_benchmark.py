"""The benchmark on small images with the embedded models."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pipeline import benchmark
from pipeline.benchmark import CpuTimer, MemoryTimer, draw_crowd, markdown_table
from pipeline.build import build_pipeline
from pipeline.cli.benchmark import main
from pipeline.cli.benchmark_video import WHOLE
from pipeline.cli.make_synthetic_video import main as draw_video
from pipeline.config import load_config
from tests.commands import exit_code

STAGES = {'detect', 'pose', 'segment', 'merge', 'whole'}


def test_a_table_of_every_stage_for_each_number_of_people(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    built = []
    monkeypatch.setattr(benchmark, 'build_pipeline', lambda c: built.append(c) or build_pipeline(c))
    file = tmp_path / 'a.json'
    options = ['--people', '2', '4', '--size', '320', '240', '--repeats', '1', '--json', str(file)]
    assert main(options) == 0
    shipped = load_config('bmp_compact', {'runtime.device': 'cpu'})
    assert [config.settings for config in built] == [shipped.settings]
    figures = json.loads(file.read_text())
    assert figures['config'] == 'bmp_compact' and figures['size'] == [320, 240]
    assert [row['people'] for row in figures['rows']] == [2, 4]
    for row in figures['rows']:
        assert set(row['stages']) == STAGES and 0 < row['found'] <= row['people']
        parts = sum(stage['wall_s'] for name, stage in row['stages'].items() if name != 'whole')
        assert 0 < parts <= row['stages']['whole']['wall_s']
        peaks = [stage['peak_extra_mib'] for stage in row['stages'].values()]
        assert max(peaks) == row['stages']['whole']['peak_extra_mib']
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith('|')]
    assert len(table) == 2 + 2 * len(STAGES)
    assert len({line.count('|') for line in table}) == 1


def test_every_stage_of_a_video(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ['--frames', '8', '--fps', '8', '--people', '2', '--size', '192', '144']
    assert draw_video([str(tmp_path), *options, '--person-height', '0.6', '0.8']) == 0
    (video,), gt, file = tmp_path.glob('video.*'), tmp_path / 'gt/gt.txt', tmp_path / 'a.json'
    command = ['video', str(video), '--detect-every', '1', '4', '--json', str(file)]
    assert main([*command, '--ground-truth', str(gt)]) == 0
    runs = json.loads(file.read_text())['runs']
    assert [(run['detect_every'], run['frames']) for run in runs] == [(1, 8), (4, 8)]
    parts = ('detect', 'pose', 'segment', 'merge', 'track', 'store', 'read', 'draw', 'write')
    for run in runs:
        assert set(run['stages']) == {WHOLE, *parts} and run['tracks']['mota'] <= 1
        assert all(stage['cpu_ms'] >= 0 for stage in run['stages'].values())
    assert runs[1]['stages']['detect']['cpu_ms'] < runs[0]['stages']['detect']['cpu_ms']
    assert 'IDF1' in capsys.readouterr().out
    with pytest.raises(SystemExit, match='2'):
        main(['video', str(gt)])
    assert 'no video stream' in capsys.readouterr().err


@pytest.mark.parametrize('people', [1, 7, 40])
def test_a_crowd_has_the_number_of_people_asked_for(people: int) -> None:
    scene = draw_crowd(640, 480, people)
    assert len(scene) == people and scene.image.shape == (480, 640, 3)


def test_timers_see_what_happens() -> None:
    timer, memory = CpuTimer(), MemoryTimer('cpu')
    with timer('a'):
        sum(range(200_000))
    assert 0 < timer.cpu['a'] and 0 < timer.seconds['a']
    with memory('a'):
        np.ones(64 * 2**20, np.uint8)
    assert memory.mib['a'] >= 60
    assert memory.mib['a'] <= 90 or not memory.is_exact


def test_wrong_values_are_reported_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(main, '--config', 'bmp_v3') == 2
    assert 'no pipeline config' in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(['--people', '0'])
    assert 'must be >= 1' in capsys.readouterr().err


def test_a_table_is_markdown() -> None:
    assert markdown_table(['a', 'b'], [['x', '1']]) == '| a | b |\n| --- | --: |\n| x | 1 |'
