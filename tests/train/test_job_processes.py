"""Jobs with workers in processes of their own, on Ray and on S3."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.job_fakes import KILLER, bmp, merged, save_numbered
from tests.run_fakes import save_image


@pytest.fixture(scope='module')
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_numbered(tmp_path_factory.mktemp('in'), 20)


@pytest.fixture(scope='module')
def expected(images: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Files of a job of one shard inside this process."""
    out = tmp_path_factory.mktemp('whole') / 'job'
    assert bmp(images, '--engine', 'local', '--workers', 0, '--out-dir', out) == 1
    return merged(out)


@pytest.mark.parametrize(('engine', 'workers', 'size'), [('local', 2, 3), ('ray', 2, 4)])
def test_files_are_those_of_one_process(
    images: Path, expected: dict[str, bytes], tmp_path: Path, engine: str, workers: int, size: int
) -> None:
    out = tmp_path / 'job'
    options = ['--engine', engine, '--workers', workers, '--shard-size', size, '--out-dir', out]
    assert bmp(images, *options) == 1
    assert merged(out) == expected


@pytest.mark.parametrize('engine', ['local', 'ray'])
def test_an_image_that_kills_workers_becomes_a_failed_row(
    images: Path, tmp_path: Path, engine: str
) -> None:
    folder, out = tmp_path / 'in', tmp_path / 'job'
    for i, value in enumerate([90, 91, KILLER, 92]):
        save_image(folder / f'{i}.png', value)
    assert bmp(folder, '--engine', engine, '--shard-size', 3, '--out-dir', out) == 1
    failures = json.loads(merged(out)['failures.json'])
    assert [(f['input'], f['error']) for f in failures] == [(str(folder / '2.png'), 'WorkerDied')]
