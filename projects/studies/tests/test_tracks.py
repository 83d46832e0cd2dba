"""Study of trackers: drawn people, and people that a pipeline finds in a video."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.__main__ import main as bmp
from projects.studies.tools.study_tracks import main

TWO = ['--trackers', 'association', 'sort']


def figures(text: str) -> dict[str, list[str]]:
    """Name of a tracker -> HOTA, DetA, AssA, MOTA, IDF1, counts and time."""
    lines = [line.split() for line in text.splitlines()]
    return {line[0]: line[1:] for line in lines if len(line) == 11}


def test_drawn_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ['--drawn', '4', '--missing', '0', '--frames', '15', '--out', str(tmp_path), *TWO]
    assert main(arguments) == 0
    table = figures(capsys.readouterr().out)
    assert set(table) == {'sequence', 'association', 'sort'}
    assert table['association'][:5] == ['100.0'] * 5
    assert (tmp_path / 'drawn_4_0' / 'sort.txt').is_file()


def test_a_video_continues_from_its_predictions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn, out = tmp_path / 'drawn', tmp_path / 'out'
    bmp(['draw-video', str(drawn), *'--frames 6 --people 2 --size 256 192 --fps 5'.split()])
    (video,) = drawn.glob('video.*')
    arguments = [str(video), str(drawn / 'gt' / 'gt.txt'), '--out', str(out), *TWO]
    assert main([*arguments, '--device', 'cpu']) == 0
    first = figures(capsys.readouterr().out)
    assert len((out / 'bmp_compact_video' / '000000.jsonl').read_text().splitlines()) == 6
    monkeypatch.setattr('pipeline.api.LoadedPipeline.predict_batch', None)
    assert main([*arguments, '--device', 'cpu']) == 0
    again = figures(capsys.readouterr().out)
    assert {name: row[:9] for name, row in again.items()} == {n: r[:9] for n, r in first.items()}


def test_arguments_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ['video.mp4'], ['video.mp4', 'gt.txt', '--drawn', '3']):
        with pytest.raises(SystemExit):
            main(arguments)
        assert 'give VIDEO and GROUND_TRUTH, or --drawn N' in capsys.readouterr().err
