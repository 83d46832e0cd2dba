"""Jobs with workers in processes of their own, on Ray and on S3."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import fsspec
import pytest

from pipeline.cli import jobs, run, test
from pipeline.io.run_options import RunReport
from pipeline.video.inputs import VideoInput
from pipeline.video.run import VideoOptions, run_videos
from tests.commands import exit_code
from tests.fuzz import kill_jobs
from tests.job_fakes import KILLER, bmp, merged, save_numbered, wait_until
from tests.run_fakes import save_image
from tests.s3_server import BUCKET, RATES, serve_s3
from tests.unit.test_run_videos import DRAWN, Oracle
from tests.video_files import write_video

from .test_dataset_run import toy_set


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


@pytest.fixture(scope='module')
def cluster() -> Iterator[Any]:
    """Ray with one node of two CPUs; more nodes can be added."""
    import pipeline.scale.ray_pool  # sets variables for Ray

    assert pipeline.scale.ray_pool
    import ray
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={'num_cpus': 2})
    ray.init(address=nodes.address, log_to_driver=False)
    yield nodes
    ray.shutdown()
    nodes.shutdown()


@pytest.mark.parametrize('engine', ['local', pytest.param('ray', marks=pytest.mark.slow)])
def test_an_image_that_kills_workers_becomes_a_failed_row(
    images: Path, tmp_path: Path, engine: str, request: pytest.FixtureRequest
) -> None:
    if engine == 'ray':
        request.getfixturevalue('cluster')
    folder, out = tmp_path / 'in', tmp_path / 'job'
    for i, value in enumerate([90, 91, KILLER, 92]):
        save_image(folder / f'{i}.png', value)
    assert bmp(folder, '--engine', engine, '--shard-size', 3, '--out-dir', out) == 1
    failures = json.loads(merged(out)['failures.json'])
    assert [(f['input'], f['error']) for f in failures] == [(str(folder / '2.png'), 'WorkerDied')]


def test_a_node_of_ray_that_is_removed(
    images: Path, expected: dict[str, bytes], tmp_path: Path, cluster: Any,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    out = tmp_path / 'job'
    node = cluster.add_node(num_cpus=2)
    monkeypatch.setenv('FAKE_S', '0.2')

    def remove_node() -> None:
        wait_until(lambda: len(list((out / 'done').rglob('*.done'))) >= 4)
        cluster.remove_node(node, allow_graceful=False)

    thread = Thread(target=remove_node)
    thread.start()
    options = ['--engine', 'ray', '--workers', 4, '--shard-size', 1, '--out-dir', out]
    assert bmp(images, *options) == 1
    thread.join()
    assert any('died' in line for line in caplog.messages)
    assert merged(out) == expected


def test_source_and_target_on_a_faulty_server(
    images: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    with serve_s3() as server:
        files, out = fsspec.filesystem('s3', skip_instance_cache=True), f'{BUCKET}/out'
        files.put(f'{images}/', 'bucket/in/', recursive=True)
        server.active = True
        options = ['--engine', 'local', '--workers', 2, '--shard-size', 4, '--out-dir', out]
        assert bmp(f'{BUCKET}/in', *options) == 1
        results = merged(out)
        assert set(server.faults) == set(RATES)
    for name in ('coco_results.json', 'coco_images.json', 'people.csv', 'images.csv'):
        assert results[name] == expected[name]


def test_videos_with_two_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [frame.scene.image for frame in DRAWN]
    clips = [tmp_path / f'{name}.mkv' for name in 'ab']
    for clip in clips:
        write_video(clip, frames, codec='ffv1', pix_fmt='bgr0')
    monkeypatch.setattr(jobs, 'make_loader', lambda *_: Oracle)
    whole, out = tmp_path / 'whole', tmp_path / 'out'
    videos = [VideoInput(str(clip), clip.stem) for clip in clips]
    run_videos(Oracle(), videos, VideoOptions(whole, frozenset({'mot'})), RunReport(0))
    options = ['--save', 'mot', '--engine', 'local', '--workers', 2, '--out-dir', out]
    assert exit_code(run.main, '--videos', *clips, *options) == 0
    for name in 'ab':
        found, expected = (folder / 'videos' / name / 'mot.txt' for folder in (out, whole))
        assert found.read_text() == expected.read_text() != ''
    clips[0].write_bytes(b'no video')
    assert exit_code(run.main, '--videos', *clips, *options) == 1
    assert exit_code(run.main, *clips, tmp_path, *options) == 2


def test_a_data_set_with_two_workers(tmp_path: Path) -> None:
    annotations = toy_set(tmp_path / 'data', 12)
    results = []
    for options in (['--engine', 'local', '--workers', 2], []):
        out = tmp_path / f'out{len(options)}'
        arguments = ['bmp_compact', '--data', annotations, '--protocol', 'oracle', '--out-dir', out]
        assert exit_code(test.main, *arguments, *options) == 0
        results.append((out / 'results.json').read_bytes())
    assert results[0] == results[1]
    assert len(list((tmp_path / 'out4/shards').iterdir())) == 2


@pytest.mark.slow
def test_a_short_kill_campaign() -> None:
    assert kill_jobs.main(['--count', '8', '--seed', '1']) == 0
