"""Downloads from a local web server with interruptions, wrong files and new versions."""

from __future__ import annotations

import hashlib
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants, file_download

from pipeline.cli import download_checkpoints
from pipeline.io.atomic import compute_sha256
from pipeline.weights import download
from pipeline.weights.checkpoints import read_checksum
from pipeline.weights.download import DownloadError, fetch, find_parts, is_offline, list_urls
from pipeline.weights.manifest import WeightsEntry
from tests.web_server import Answer, Site, chunked, fake_weights, running_site, serve, status

ROOT = Path(__file__).resolve().parents[2]
GOOD = fake_weights()
OTHER = fake_weights(seed=1)
SHA = hashlib.sha256(GOOD).hexdigest()
ONE, TWO = '/one.test/w.pth', '/two.test/w.pth'
HALF = 100_000
REST = f'bytes={HALF}-'


@pytest.fixture(autouse=True)
def local(
    request: pytest.FixtureRequest, direct: None, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Send ``https://one.test/w.pth`` to ``/one.test/w.pth`` of the local server; never wait."""

    def local_urls(entry: WeightsEntry) -> list[str]:
        return [url.replace('https:/', site.url) for url in list_urls(entry)]

    monkeypatch.setattr(download, 'list_urls', local_urls)
    monkeypatch.setattr(constants, 'DOWNLOAD_CHUNK_SIZE', 1000)
    monkeypatch.setattr(constants, 'HF_HUB_DOWNLOAD_TIMEOUT', 0.5)
    monkeypatch.setattr(file_download.time, 'sleep', lambda _: None)


def entry_of(**changes: Any) -> WeightsEntry:
    texts = {'about': 'a test', 'licence': 'MIT', 'source': 'here'}
    urls = ('https://one.test/w.pth', 'https://two.test/w.pth')
    file: dict[str, Any] = {'name': 'w', 'file': 'w.pth', 'kind': 'pose', 'urls': urls}
    values = file | texts | {'size': len(GOOD), 'sha256': SHA}
    return WeightsEntry(**(values | changes))


UNCHECKED = entry_of(size=None, sha256=None)
PREFIX = entry_of(size=None, sha256=None, sha256_prefix=SHA[:8])


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if not p.name.endswith('.lock'))


@dataclass(frozen=True)
class Case:
    """Answers of the two URLs, and the expected requests (path, range)."""

    one: list[Answer]
    expected: list[tuple[str, str | None]]
    two: list[Answer] = field(default_factory=list)
    entry: WeightsEntry = field(default_factory=entry_of)


SECOND: list[Answer] = [serve(GOOD)]
BOTH: list[tuple[str, str | None]] = [(ONE, None), (TWO, None)]
GOOD_END = {
    'complete': Case([serve(GOOD)], [(ONE, None)]),
    'only the prefix is known': Case([serve(GOOD)], [(ONE, None)], entry=PREFIX),
    'nothing is known': Case([serve(GOOD)], [(ONE, None)], entry=UNCHECKED),
    'without a length': Case([chunked(GOOD)], [(ONE, None)]),
    'interrupted': Case([serve(GOOD, stop_after=HALF), serve(GOOD)], [(ONE, None), (ONE, REST)]),
    'interrupted, ranges ignored': Case(
        [serve(GOOD, stop_after=HALF), serve(GOOD, ranges=False)], [(ONE, None), (ONE, REST)]
    ),
    'no further bytes': Case(
        [serve(GOOD, stop_after=HALF, stall=True), serve(GOOD)], [(ONE, None), (ONE, REST)]
    ),
    '404': Case([status(404)], [(TWO, None)], SECOND),
    '500': Case([status(500)], [(TWO, None)], SECOND),
    'wrong bytes': Case([serve(OTHER)], BOTH, SECOND),
    'wrong prefix': Case([serve(OTHER)], BOTH, SECOND, PREFIX),
    'other size announced': Case([serve(GOOD, length=HALF)], [(TWO, None)], SECOND),
    'a web page': Case([serve(b'<!DOCTYPE html><html>log in</html>')], BOTH, SECOND, UNCHECKED),
    'redirect': Case([status(302, Location='/elsewhere')], [(ONE, None), ('/elsewhere', None)]),
    'redirect to a file': Case([status(302, Location='file:///etc/passwd')], BOTH, SECOND),
}


@pytest.mark.parametrize('case', GOOD_END.values(), ids=GOOD_END)
def test_successful_downloads(case: Case, site: Site, tmp_path: Path) -> None:
    site.answers |= {ONE: list(case.one), TWO: list(case.two), '/elsewhere': [serve(GOOD)]}
    assert fetch(case.entry, tmp_path)
    assert [(seen.path, seen.range) for seen in site.seen] == case.expected
    assert (tmp_path / 'w.pth').read_bytes() == GOOD
    assert names(tmp_path) == ['w.pth'] + ['w.pth.sha256'] * (case.entry.sha256 is None)
    site.seen.clear()
    assert not fetch(case.entry, tmp_path) and not site.seen


@pytest.mark.parametrize(
    ('one', 'two', 'message'),
    [
        (status(404), status(410), r'one\.test\S+\s+HTTP 404.*HTTP 410'),
        (serve(OTHER), serve(OTHER), 'wrong file: sha256'),
        (status(401), status(403), r'HTTP 401.*HF_TOKEN'),
    ],
    ids=['absent', 'wrong bytes', 'login'],
)
def test_only_correct_files_get_the_final_name(
    one: Answer, two: Answer, message: str, site: Site, tmp_path: Path
) -> None:
    site.answers |= {ONE: [one], TWO: [two]}
    with pytest.raises(DownloadError, match=f'(?s){message}') as raised:
        fetch(entry_of(), tmp_path)
    assert str(tmp_path / 'w.pth') in str(raised.value)
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ('second', 'ranges'),
    [(serve(GOOD), [REST]), (serve(GOOD, etag='"2"'), [None])],
    ids=['same file', 'the server has a new version'],
)
def test_the_next_call_continues_an_interrupted_download(
    second: Answer, ranges: list[str | None], site: Site, tmp_path: Path
) -> None:
    only = entry_of(urls=('https://one.test/w.pth',))
    site.answers[ONE] = [serve(GOOD, stop_after=HALF), status(500)]
    with pytest.raises(DownloadError, match='HTTP 500'):
        fetch(only, tmp_path)
    (part,) = find_parts(tmp_path / 'w.pth')
    assert part.stat().st_size == HALF
    site.answers[ONE] = [second]
    site.seen.clear()
    assert fetch(only, tmp_path)
    assert site.ranges() == ranges
    assert names(tmp_path) == ['w.pth'] and compute_sha256(tmp_path / 'w.pth') == SHA


def test_a_wrong_file_in_place_is_replaced_only_on_request(site: Site, tmp_path: Path) -> None:
    site.answers[ONE] = [serve(GOOD)]
    (tmp_path / 'w.pth').write_bytes(OTHER)
    with pytest.raises(DownloadError, match=r'sha256 .* expected .*download_checkpoints.py w --fo'):
        fetch(entry_of(), tmp_path)
    assert not site.seen and (tmp_path / 'w.pth').read_bytes() == OTHER
    assert fetch(entry_of(), tmp_path, force=True)
    assert (tmp_path / 'w.pth').read_bytes() == GOOD


def test_the_first_checksum_is_recorded_and_must_stay(site: Site, tmp_path: Path) -> None:
    site.answers[ONE] = [serve(GOOD)]
    assert fetch(UNCHECKED, tmp_path)
    assert (tmp_path / 'w.pth.sha256').read_text() == f'{SHA}  w.pth\n'
    (tmp_path / 'w.pth').write_bytes(OTHER)
    with pytest.raises(DownloadError, match=r'after the download \(w.pth.sha256\)'):
        fetch(UNCHECKED, tmp_path)
    site.answers[ONE] = [serve(OTHER)]
    assert fetch(UNCHECKED, tmp_path, force=True)
    assert read_checksum(tmp_path / 'w.pth') == hashlib.sha256(OTHER).hexdigest()


def test_offline(site: Site, tmp_path: Path) -> None:
    site.answers[ONE] = [serve(GOOD)]
    with pytest.raises(DownloadError, match=r'(?s)offline: .*https://one.test/w.pth.*w\.pth'):
        fetch(entry_of(), tmp_path, offline=True)
    (tmp_path / 'w.pth').write_bytes(GOOD)  # copied by hand
    assert not fetch(UNCHECKED, tmp_path, offline=True)
    assert read_checksum(tmp_path / 'w.pth') == SHA and not site.seen


def test_without_a_network_the_message_has_urls_and_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as closed:
        closed.bind(('127.0.0.1', 0))  # bound but not listening: refuses
        url = f'http://127.0.0.1:{closed.getsockname()[1]}/w.pth'
        monkeypatch.setattr(download, 'list_urls', lambda _: [url])
        with pytest.raises(DownloadError, match='refused') as raised:
            fetch(entry_of(), tmp_path)
    assert url in str(raised.value) and str(tmp_path / 'w.pth') in str(raised.value)


def test_folders_that_cannot_be_written_and_full_disks(site: Site, tmp_path: Path) -> None:
    (tmp_path / 'file').write_text('')
    with pytest.raises(DownloadError, match=r'cannot write to .*--dir'):
        fetch(entry_of(), tmp_path / 'file' / 'sub')
    site.answers[ONE] = [serve(GOOD, stop_after=HALF), status(404)]
    with pytest.raises(DownloadError):
        fetch(entry_of(), tmp_path)
    site.answers[ONE] = [serve(GOOD)]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (HALF + 1000, hard))
    try:
        with pytest.raises(DownloadError, match='File too large'):
            fetch(entry_of(), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize('kind', ['link', 'link to nothing', 'pipe', 'folder'])
def test_a_part_that_is_no_file_is_never_written(kind: str, site: Site, tmp_path: Path) -> None:
    site.answers[ONE] = [serve(GOOD, stop_after=HALF), status(404)]
    with pytest.raises(DownloadError):
        fetch(entry_of(), tmp_path)
    (part,) = find_parts(tmp_path / 'w.pth')
    part.unlink()
    victim = tmp_path / 'victim'
    if kind == 'link':
        victim.write_text('mine')
    if kind.startswith('link'):
        part.symlink_to(victim)
    else:
        (os.mkfifo if kind == 'pipe' else os.mkdir)(part)
    site.answers[ONE] = [serve(GOOD)]
    if kind == 'folder':
        with pytest.raises(DownloadError, match='could not be downloaded'):
            fetch(entry_of(), tmp_path)
    else:
        assert fetch(entry_of(), tmp_path)
        assert (tmp_path / 'w.pth').read_bytes() == GOOD
        assert victim.exists() == (kind == 'link')
        assert kind != 'link' or victim.read_text() == 'mine'


@pytest.mark.parametrize('size', [None, len(GOOD)])
def test_a_transfer_ends_at_the_known_size(size: int | None, site: Site, tmp_path: Path) -> None:
    # The answer to HEAD announces the size only if the entry has none.
    first = [serve(GOOD, stop_after=HALF)] if size is None else []
    site.answers |= {ONE: [*first, chunked(GOOD * 9)], TWO: [serve(GOOD)]}
    assert fetch(entry_of(size=size), tmp_path)
    assert site.paths()[-1] == TWO and names(tmp_path) == ['w.pth']


@pytest.mark.parametrize(
    'headers',
    [
        {'Content_Range': 'bytes a-b/c'}, {'Content_Range': 'x'}, {'ETag': ''},
        {'X_Linked_Size': 'many'}, {'X_Linked_Size': '-5'}, {'Content_Encoding': 'gzip'},
    ],
    ids=str,
)  # fmt: skip
def test_malformed_headers_are_survived(
    headers: dict[str, str], site: Site, tmp_path: Path
) -> None:
    site.answers |= {ONE: [serve(GOOD, etag='', **headers)], TWO: [serve(GOOD)]}
    assert fetch(PREFIX, tmp_path)
    assert (tmp_path / 'w.pth').read_bytes() == GOOD


def test_parallel_downloads_fetch_once(site: Site, tmp_path: Path) -> None:
    site.answers[ONE] = [serve(GOOD, step=50_000)]
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda _: fetch(entry_of(), tmp_path), range(2)))
    assert sorted(results) == [False, True] and site.paths() == [ONE]


# Mirrors and tokens


def test_the_order_of_urls(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = entry_of(file='a+b.pt', urls=('https://huggingface.co/o/r/resolve/main/a%2Bb.pt',))
    assert list_urls(entry_of()) == list(entry_of().urls)
    monkeypatch.setenv('BMP_MIRROR', 'http://mirror:8000/w/')
    monkeypatch.setenv('HF_ENDPOINT', 'https://hub.test/')
    assert list_urls(hub) == [
        'http://mirror:8000/w/a%2Bb.pt',
        'https://hub.test/o/r/resolve/main/a%2Bb.pt',
        'https://huggingface.co/o/r/resolve/main/a%2Bb.pt',
    ]
    for name, value in (('BMP_MIRROR', 'mirror/w'), ('HF_ENDPOINT', 'ftp://hub')):
        monkeypatch.setenv(name, value)
        with pytest.raises(DownloadError, match=f"{name} must be an http.* '{value}'"):
            list_urls(hub)
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ('url', 'sent'),
    [
        ('https://huggingface.co/o/r', True),
        ('https://hub.test/o/r', True),
        ('http://huggingface.co/o/r', False),
        ('https://huggingface.co.evil.test/o/r', False),
        ('https://huggingface.co:8443/o/r', False),
        ('https://download.openmmlab.com/w.pth', False),
    ],
)
def test_only_the_hub_gets_the_token(url: str, sent: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('HF_ENDPOINT', 'https://hub.test')
    assert download._is_hub(url) == sent


def test_a_redirect_drops_the_token_and_its_checksum_counts(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = '/o/r/resolve/main/w.pth'
    hub = entry_of(urls=(f'https://huggingface.co{path}',), sha256=None)
    monkeypatch.setattr(download, 'list_urls', lambda _: [site.url + path])
    monkeypatch.setenv('HF_ENDPOINT', site.url)
    monkeypatch.setenv('HF_TOKEN', 'secret')
    with running_site() as elsewhere:
        size = str(len(GOOD))
        blob = f'{elsewhere.url}/blob'
        site.answers[path] = [
            status(302, Location=blob, X_Linked_Etag=f'"{SHA}"', X_Linked_Size=size)
        ]
        elsewhere.answers['/blob'] = [serve(GOOD)]
        assert fetch(hub, tmp_path)
        assert [s.headers.get('authorization') for s in site.seen] == ['Bearer secret']
        assert [s.headers.get('authorization') for s in elsewhere.seen] == [None]
        elsewhere.answers['/blob'] = [serve(OTHER)]
        with pytest.raises(DownloadError, match='the server states'):
            fetch(hub, tmp_path, force=True)


@pytest.mark.parametrize('name', ['BMP_OFFLINE', 'HF_HUB_OFFLINE'])
@pytest.mark.parametrize(('value', 'offline'), [('1', True), ('TRUE', True), ('0', False)])
def test_offline_switches(
    name: str, value: str, offline: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    assert is_offline() == offline


# The command

NAME, FILE = 'sam2.1_hiera_tiny', 'sam2.1_hiera_tiny.pt'
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def tool(
    site: Site,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Run the command in this process against the local mirror: exit code, stdout, stderr."""
    monkeypatch.setattr(download, 'list_urls', lambda entry: list_urls(entry)[:1])
    monkeypatch.setenv('BMP_MIRROR', f'{site.url}/m')

    def run(*arguments: str) -> tuple[int, str, str]:
        try:
            code = download_checkpoints.main(['--dir', str(tmp_path), *arguments])
        except SystemExit as stop:  # of argparse
            code = int(str(stop.code))
        return code, *capsys.readouterr()

    return run


def test_list_verify_and_force(site: Site, tmp_path: Path, tool: Run) -> None:
    (tmp_path / FILE).write_bytes(GOOD)
    (tmp_path / 'sam2.1_hiera_large.pt').write_text('version https://git-lfs.github.com/spec/v1')
    code, output, _ = tool('--list')
    rows = {line.split()[0]: line for line in output.splitlines() if line.strip()}
    assert code == 1 and 'wrong: it is a git-lfs pointer' in rows['sam2.1_hiera_large']
    assert ' here ' in rows[NAME] and ' absent ' in rows['vitpose-b']
    size = (ROOT / 'checkpoints/vitpose_compact.pth').stat().st_size / 1e6
    assert f' {size:.1f} MB ' in rows['vitpose_compact'] and 'embedded' in rows['vitpose_compact']
    assert 'GPL-3.0' in rows['PMPose-b-1.0.0']
    site.answers['/m/sam2.1_hiera_small.pt'] = [serve(GOOD, stop_after=HALF), status(404)]
    assert tool('sam2.1_hiera_small')[0] == 1
    output = tool('--list', 'sam2.1_hiera_small')[1]
    assert 'absent: 100.0 kB of it downloaded' in output and '1 absent' in output
    code, output, _ = tool('--verify', NAME)
    assert code == 0 and 'sha256 recorded now' in output
    (tmp_path / FILE).write_bytes(OTHER)
    code, output, _ = tool('--verify')
    assert code == 1 and f'download_checkpoints.py {NAME} --force' in ' '.join(output.split())
    site.answers[f'/m/{FILE}'] = [serve(OTHER)]
    code, output, _ = tool(NAME, '--force')
    assert code == 0 and 'downloaded' in output
    assert tool('--verify', NAME)[0] == 0
    assert tool('--verify', NAME, 'vitpose-b')[0] == 1


def test_all_files_of_a_pipeline(site: Site, tmp_path: Path, tool: Run) -> None:
    files = ['rtmdet-ins-l-mask.pth', 'PMPose-b-1.0.0.pth', 'SAM-pose2seg_hiera_b+.pt']
    code, _, errors = tool('--pipeline', 'bmp_v2', '--offline')
    assert code == 1 and not site.seen
    assert errors.count('offline: 3 weights are missing') == 1
    for file in files:
        assert str(tmp_path / file) in errors
    for i, file in enumerate(files):
        site.answers[f'/m/{file.replace("+", "%2B")}'] = [serve(fake_weights(seed=i))]
    code, output, errors = tool('--pipeline', 'bmp_v2')
    assert code == 0 and output.count('downloaded') == 3, errors
    assert all((tmp_path / file).is_file() for file in files)
    code, output, _ = tool('--pipeline', 'bmp_v2', '--offline')
    assert code == 0 and output.count('exists already') == 3


def test_a_failed_file_does_not_stop_the_others(site: Site, tool: Run) -> None:
    site.answers[f'/m/{FILE}'] = [serve(GOOD)]
    code, output, errors = tool('vitpose-b', NAME)
    assert code == 1 and f'{NAME}: downloaded' in output
    assert 'vitpose-b could not be downloaded' in errors and 'HTTP 404' in errors


def test_a_config_with_files_of_the_user(site: Site, tmp_path: Path, tool: Run) -> None:
    config = tmp_path / 'mine.py'
    config.write_text(
        "detector = dict(config='a.py', checkpoint='a.pth')\n"
        "pose = dict(config='a.py', checkpoint=None)\n"
        "segmenter = dict(config='a.yaml', checkpoint='a.pth')\n"
    )
    code, _, errors = tool('--pipeline', str(config))
    assert code == 1 and "no weights 'a.pth'" in errors
    (tmp_path / 'a.pth').write_bytes(GOOD)
    code, output, _ = tool('--pipeline', str(config))
    assert code == 0 and 'nothing to download' in output and not site.seen


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['PMPose-b'], 'no weights PMPose-b (did you mean PMPose-b-1.0.0'),
        ([], 'name the files to download'),
        (['--pipeline', 'bmp_v3'], "no pipeline config 'bmp_v3'"),
    ],
    ids=['unknown name', 'nothing', 'unknown pipeline'],
)
def test_wrong_arguments(arguments: list[str], message: str, tool: Run) -> None:
    code, _, errors = tool(*arguments)
    assert code == 2 and message in errors


def test_the_script(site: Site, tmp_path: Path) -> None:
    site.answers[f'/m/{FILE}'] = [serve(GOOD)]
    command = [sys.executable, str(ROOT / 'tools' / 'download_checkpoints.py'), NAME]
    variables = {'BMP_MIRROR': f'{site.url}/m', 'BMP_CHECKPOINTS': str(tmp_path)}
    subprocess.run(command, check=True, env={**os.environ, **variables})
    assert compute_sha256(tmp_path / FILE) == SHA == read_checksum(tmp_path / FILE)
