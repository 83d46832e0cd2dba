"""Jobs of many images: sources, shards, repetition, merge; with workers inside the process."""

from __future__ import annotations

import csv
import io
import json
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import fsspec
import pandas
import polars
import pyarrow as pa
import pytest
from pyarrow import parquet

from pipeline.cli import jobs
from pipeline.io.images import InputError
from pipeline.io.run_options import OutputError
from pipeline.scale import driver as driver_module
from pipeline.scale import storage
from pipeline.scale.driver import Driver, Event
from pipeline.scale.job import Job, describe_pipeline, read_job
from pipeline.scale.run import describe_status
from pipeline.scale.sources import list_items
from pipeline.scale.tasks import ShardTask
from tests.commands import exit_code
from tests.job_fakes import ScriptedPool, bmp, load_fake, merged, save_numbered
from tests.run_fakes import run, save_image


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No pauses; an empty ``memory://``."""
    monkeypatch.setattr(storage, 'PAUSES_S', (0.0, 0.0, 0.0))
    yield
    fsspec.filesystem('memory').store.clear()
    storage.open_folder.cache_clear()


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return save_numbered(tmp_path / 'in', 7)


def run_job(source: object, out: object, *options: object) -> int:
    return bmp(source, '--engine', 'local', '--workers', 0, '--out-dir', out, *options)


def lines_of(out: Path) -> str:
    job = read_job(str(out))
    assert job is not None
    return '\n'.join(describe_status(job, job.read_marks()))


def rows(out: Path | str) -> list[dict[str, Any]]:
    data = merged(out, 'parquet')['results.parquet']
    return parquet.read_table(io.BytesIO(data)).to_pylist()  # type: ignore[no-any-return]


@pytest.mark.parametrize('options', [[], ['--shard-size', 3], ['--shard-size', 1],
                                     ['--shard-size', 4, '--batch-images', 3]])  # fmt: skip
def test_files_equal_those_of_an_ordinary_run(
    images: Path, tmp_path: Path, options: list[object]
) -> None:
    whole = tmp_path / 'whole'
    report, _ = run(images, whole, save=('json', 'coco'))
    assert run_job(images, tmp_path / 'job', *options) == 1  # an image is damaged
    assert len(report.failures) == 1
    files = merged(tmp_path / 'job')
    for name in ('coco_results.json', 'coco_images.json'):
        ordinary = (whole / name).read_bytes()
        if name == 'coco_results.json':
            assert files[name] == ordinary
        assert len(json.loads(files[name])) == len(json.loads(ordinary))
    assert json.loads(files['failures.json'])[0]['error'] == 'ImageReadError'


def test_rows_do_not_depend_on_shards_or_repetition(images: Path, tmp_path: Path) -> None:
    outs = [tmp_path / name for name in 'abc']
    run_job(images, outs[0], '--shard-size', 3)
    for part in ('2/2', '1/2', '1/2'):
        run_job(images, outs[1], '--shard-size', 2, '--shard', part)
    run_job(images, outs[2], '--shard-size', 1)
    for shard in (0, 4):  # killed after the part, before its mark
        (outs[2] / f'done/0000/{shard:07}.done').unlink()
    (outs[2] / 'parts/0000/0000002.parquet').write_bytes(b'a part that is not whole')
    (outs[2] / 'done/0000/0000002.done').unlink()
    run_job(images, outs[2])
    files = [merged(out) for out in outs]
    assert files[0] == files[1] == files[2]
    assert [row['index'] for row in rows(outs[0])] == list(range(8))


def test_a_part_has_the_same_bytes_from_every_run(images: Path, tmp_path: Path) -> None:
    for name in 'ab':
        run_job(images, tmp_path / name, '--shard-size', 4)
    part = 'parts/0000/0000000.parquet'
    assert (tmp_path / 'a' / part).read_bytes() == (tmp_path / 'b' / part).read_bytes()
    assert not list((tmp_path / 'a/tmp').iterdir())


@pytest.mark.parametrize(
    ('change', 'message'),
    {
        'another config': (['--config', 'other'], 'config changed'),
        'another source': (['SOURCE'], 'its source is'),
        'other shards': (['--shard-size', 2], '--shard-size 1000, not 2'),
    }.values(),
)
def test_another_job_in_the_folder_is_an_error(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    change: list[object], message: str,
) -> None:  # fmt: skip
    run_job(images, tmp_path / 'job')
    source = tmp_path / 'other' if change == ['SOURCE'] else images
    save_image(tmp_path / 'other' / 'x.png')
    before = merged(tmp_path / 'job')
    assert run_job(source, tmp_path / 'job', *(change if change != ['SOURCE'] else [])) == 1
    assert message in capsys.readouterr().err
    assert merged(tmp_path / 'job') == before


def test_failed_images_are_computed_again_on_request(images: Path, tmp_path: Path) -> None:
    out = tmp_path / 'job'
    assert run_job(images, out, '--shard-size', 4) == 1
    assert 'failed   1 image in 1 shard' in lines_of(out)
    save_image(tmp_path / 'good.png', 90).rename(images / 'damaged.jpg')
    untouched = (out / 'parts/0000/0000000.parquet').stat().st_mtime_ns
    assert run_job(images, out) == 1  # still has a failed image
    assert len(json.loads(merged(out)['failures.json'])) == 1
    assert run_job(images, out, '--retry-failed') == 0
    assert not json.loads(merged(out)['failures.json'])
    assert untouched == (out / 'parts/0000/0000000.parquet').stat().st_mtime_ns
    run_job(images, tmp_path / 'fresh')
    assert merged(tmp_path / 'fresh') == merged(out)


def save_table(path: Path, images: Path, kind: str) -> str:
    """Save a table of the images with their paths and ids; returns the source."""
    names = ['0/0000.png', '1/0001.png']
    content = {
        'path': [str(images / names[0]), f'{images.name}/{names[1]}'],
        'image_id': ['7', '007'],
        'name': ['first', 'second'],
    }
    if kind == 'parquet':
        parquet.write_table(pa.table(content), path / 'list.parquet')
    elif kind == 'csv':
        with (path / 'list.csv').open('w', newline='') as stream:
            writer = csv.writer(stream)
            writer.writerow(content)
            writer.writerows(zip(*content.values(), strict=True))
    elif kind == 'txt':
        (path / 'list.txt').write_text('# images\n' + '\n'.join(content['path']))
    else:
        with tarfile.open(path / 'list.tar', 'w') as tar:
            for name in names:
                tar.add(images / name, Path(name).name)
                tar.addfile(tarfile.TarInfo(f'{Path(name).stem}.json'))
    return str(path / f'list.{kind}')


@pytest.mark.parametrize('kind', ['parquet', 'csv', 'txt', 'tar'])
def test_lists_tables_and_tar_files(images: Path, tmp_path: Path, kind: str) -> None:
    source, out = save_table(tmp_path, images, kind), tmp_path / 'job'
    assert run_job(source, out) == 0
    found = [(row['name'], row['image_id'], row['height'], len(row['people'])) for row in rows(out)]
    names = {'txt': [str(images / '0/0000.png'), 'in/1/0001.png'],
             'tar': ['list/0000.png', 'list/0001.png']}.get(kind, ['first', 'second'])  # fmt: skip
    ids = ['7', '007'] if kind in ('parquet', 'csv') else ['1', '2']
    assert found == [(name, i, 40, 3) for name, i in zip(names, ids, strict=True)]
    results = json.loads(merged(out, 'coco')['coco_results.json'])
    assert {row['image_id'] for row in results} == ({7, '007'} if ids[1] == '007' else {1, 2})


def test_source_and_target_at_an_address(images: Path, tmp_path: Path) -> None:
    files = fsspec.filesystem('memory')
    files.put(f'{images}/', '/bucket/in/', recursive=True)
    assert run_job('memory://bucket/in', 'memory://bucket/out', '--shard-size', 3) == 1
    assert run_job('memory://bucket/in/*/*.png', 'memory://bucket/some') == 0
    run_job(images, tmp_path / 'job')
    distant, near = merged('memory://bucket/out'), merged(tmp_path / 'job')
    assert distant['coco_results.json'] == near['coco_results.json']
    assert len(rows('memory://bucket/some')) == 7


@pytest.mark.parametrize(
    ('source', 'message'),
    {
        'missing folder': ('absent', 'no such file or directory'),
        'empty folder': ('empty', 'no image in this directory'),
        'missing list': ('absent.txt', 'no such file'),
        'table without paths': ('wrong.csv', 'no column path or url or file_name'),
        'row without a path': ('gap.csv', 'a row without a path'),
        'no table': ('text.parquet', 'not a table'),
        'no tar file': ('text.tar', 'cannot be read'),
        'unknown protocol': ('nothing://x', 'Protocol not known'),
        'missing address': ('memory://absent', 'no image'),
        'stdin': ('-', 'cannot read stdin'),
    }.values(),
)
def test_sources_that_cannot_be_used(tmp_path: Path, source: str, message: str) -> None:
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'wrong.csv').write_text('a,b\n1,2\n')
    (tmp_path / 'gap.csv').write_text('path,image_id\nx.jpg,1\n,2\n')
    for name in ('text.parquet', 'text.tar'):
        (tmp_path / name).write_text('some text')
    local = source == '-' or '://' in source
    with pytest.raises(InputError, match=message):
        list(list_items([source if local else str(tmp_path / source)]))


def test_errors_of_an_object_store_are_repeated_then_reported(
    images: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = []

    def refuse(self: object, path: str, **_: object) -> None:
        calls.append(path)
        raise RuntimeError('no credentials')

    monkeypatch.setattr(type(fsspec.filesystem('memory')), 'cat_file', refuse)
    assert run_job(images, 'memory://out') == 1
    assert 'RuntimeError: no credentials' in capsys.readouterr().err
    assert len(calls) == 4


def test_other_libraries_read_the_parts(images: Path, tmp_path: Path) -> None:
    out = tmp_path / 'job'
    run_job(images, out, '--shard-size', 3)
    merged(out)
    expected = [(row['name'], len(row['people'])) for row in rows(out)]
    parts = f'{out}/parts/*/*.parquet'
    with_pandas = pandas.read_parquet(out / 'parts').sort_values('index')
    assert list(zip(with_pandas['name'], with_pandas['people'].map(len), strict=True)) == expected
    with_polars = polars.scan_parquet(parts).sort('index')
    counted = with_polars.select('name', polars.col('people').list.len()).collect()
    assert counted.rows() == expected
    query = f"select name, len(people) from '{parts}' order by index"
    assert duckdb.sql(query).fetchall() == expected
    scores = duckdb.sql(f"select max(p.score) from (select unnest(people) p from '{parts}')")
    assert 0 < scores.fetchall()[0][0] <= 1


def test_merge_refuses_what_is_not_whole(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / 'job'
    run_job(images, out, '--shard-size', 3, '--shard', '1/2')
    assert exit_code(jobs.main, 'merge', out) == 1
    assert '2 of 3 shards are done' in capsys.readouterr().err
    assert exit_code(jobs.main, 'merge', out, '--partial') == 0
    part = out / 'parts/0000/0000002.parquet'
    part.write_bytes((out / 'parts/0000/0000000.parquet').read_bytes())
    assert exit_code(jobs.main, 'merge', out, '--partial') == 1
    assert 'it has other images' in capsys.readouterr().err
    assert exit_code(jobs.main, 'status', tmp_path) == 2


@pytest.mark.parametrize(
    ('options', 'message'),
    {
        'overlays': (['--save', 'overlay'], '--save overlay: a job writes'),
        'boxes': (['--boxes', 'x.json'], 'do not work with --engine'),
        'no resume': (['--no-resume'], '--no-resume does not work'),
        'address': (['--address', 'auto'], '--address needs --engine ray'),
        'shard': (['--shard', '3/2'], '1 <= i <= n'),
        'config': (['--config', 'unloadable'], 'these weights do not fit'),
    }.values(),
)
def test_options_that_a_job_refuses(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    options: list[str], message: str,
) -> None:  # fmt: skip
    assert run_job(images, tmp_path / 'job', *options) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / 'job/job.json').exists()


def test_status_of_a_job_in_work(images: Path, tmp_path: Path) -> None:
    out = tmp_path / 'job'
    run_job(images, out, '--shard-size', 3, '--shard', '1/2')
    job = read_job(str(out))
    assert job is not None
    content = {'time': time.time(), 'shards': [1]}
    job.folder.write('running/a-process.json', json.dumps(content).encode())
    content['time'] = time.time() - 3600
    job.folder.write('running/a-dead-one.json', json.dumps({**content, 'shards': [2]}).encode())
    lines = lines_of(out)
    assert 'done     5 images, 2 shards (62.5 %)' in lines
    assert 'running  1 shard: 1' in lines
    assert 'left' in lines


@pytest.fixture
def drive(tmp_path: Path) -> Callable[..., tuple[list[Any], list[Any]]]:
    def run_driver(pool: Any, size: int = 9, shards: int = 2) -> tuple[list[Any], list[Any]]:
        job = Job(str(tmp_path), ('x',), size, size * shards, {})
        results: list[Any] = []
        tasks = iter([ShardTask(job, shard) for shard in range(shards)])
        Driver(pool, tasks, lambda _: None, lambda task, _: results.append(task)).run()
        return results, pool.done

    return run_driver


@pytest.mark.parametrize('killers', [{0}, {4}, {8}, {2, 3}, set(range(9))])
@pytest.mark.parametrize('size', [1, 9])
def test_images_that_kill_workers_are_found(
    drive: Callable[..., Any], killers: set[int], size: int
) -> None:
    killers = {k for k in killers if k < size}
    results, done = drive(ScriptedPool(killers), size)
    assert sorted((task.shard, task.killers, task.probe) for task in results) == [
        (shard, tuple(sorted(killers)), None) for shard in range(2)
    ]
    assert len(done) <= 2 * (2 * size + 1)


def test_a_worker_that_is_killed_from_outside_costs_a_repetition(
    drive: Callable[..., Any],
) -> None:
    results, done = drive(ScriptedPool(set(range(9)), deaths=1))
    assert [task.killers for task in results] == [(), ()]
    assert len(done) == 2


class _Deadly(ScriptedPool):
    """Workers die with every whole shard, but never with a part of it."""

    def submit(self, worker: int, task: Any) -> None:
        self.killers = set() if task.probe else set(range(9))
        super().submit(worker, task)


def test_the_search_for_an_image_ends(drive: Callable[..., Any]) -> None:
    results, _ = drive(_Deadly())
    assert [task.killers for task in results] == [tuple(range(9))] * 2


class _Events(ScriptedPool):
    """Workers that answer every task with the same event."""

    def __init__(self, kind: str, value: object, first: int = 1) -> None:
        super().__init__()
        self.kind, self.value = kind, value
        self.events = self.events[:first] or [Event(0, kind, value)] * 9

    def submit(self, worker: int, task: Any) -> None:
        self.events.append(Event(worker, self.kind, self.value))


@pytest.mark.parametrize(
    ('pool', 'error'),
    [
        (_Events('error', OSError('disk is full')), OSError),
        (_Events('error', ValueError('cannot load'), 0), ValueError),
        (_Events('died', 'SIGKILL', 0), OutputError),
    ],
)
def test_what_ends_a_run(drive: Callable[..., Any], pool: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        drive(pool)
    assert driver_module.MAX_ERRORS == 3


def test_the_fingerprint_has_all_that_rows_depend_on() -> None:
    pipeline = load_fake('a', {})
    pipeline.min_score = 0.5
    assert describe_pipeline(pipeline).keys() == {
        'config', 'weights', 'precision', 'version', 'min_score'
    }  # fmt: skip
