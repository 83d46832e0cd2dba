"""Downloads against a real web server that breaks off, stalls, lies and changes its mind."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import socket
import threading
import urllib.request
from dataclasses import dataclass, field, replace
from email.message import Message
from pathlib import Path
from typing import Any

import pytest

from pipeline.downloads.fetch import UnreachableError, fetch
from pipeline.downloads.settings import DownloadError, DownloadSettings, settings_from
from pipeline.downloads.transfer import Redirects, TransferError
from pipeline.weights.checkpoints import recorded_sha256
from pipeline.weights.manifest import WeightsEntry
from tests.web_server import Answer, Site, chunked, fake_weights, running_site, serve, status

pytestmark = pytest.mark.usefixtures('direct')
GOOD = fake_weights()
OTHER = fake_weights(seed=1)
SHA = hashlib.sha256(GOOD).hexdigest()
ONE, TWO = '/one.test/w.pth', '/two.test/w.pth'


@dataclass(frozen=True)
class LocalSettings(DownloadSettings):
    """Sends ``https://one.test/w.pth`` to ``/one.test/w.pth`` of the local server."""

    site: str = ''

    def addresses(self, entry: WeightsEntry) -> list[str]:
        return [url.replace('https:/', self.site) for url in super().addresses(entry)]


@dataclass
class Listener:
    """A reporter that remembers."""

    starts: list[int] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    bytes: int = 0

    def begin(self, name: str, done: int, total: int | None) -> None:
        self.starts.append(done)

    def advance(self, count: int) -> None:
        self.bytes += count

    def message(self, text: str) -> None:
        self.messages.append(text)


def entry_of(**changes: Any) -> WeightsEntry:
    values: dict[str, Any] = {
        'name': 'w',
        'file': 'w.pth',
        'kind': 'pose',
        'about': 'a test',
        'licence': 'MIT',
        'source': 'here',
        'urls': ('https://one.test/w.pth', 'https://two.test/w.pth'),
        'size': len(GOOD),
        'sha256': SHA,
    }
    return WeightsEntry(**(values | changes))


UNCHECKED = entry_of(size=None, sha256=None)
PREFIX = entry_of(size=None, sha256=None, sha256_prefix=SHA[:8])


def settings(site: Site, folder: Path, **changes: Any) -> LocalSettings:
    values: dict[str, Any] = {'timeout_s': 0.3, 'retries': 2, 'backoff_s': 0.01}
    return LocalSettings(folder=folder, site=site.url, **(values | changes))


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if not p.name.endswith('.lock'))


@dataclass(frozen=True)
class Case:
    """What the two mirrors answer, and the requests that must follow.

    Attributes:
        one: Answers of the first mirror, in order.
        two: Answers of the second.
        asked: Pairs of mirror and range that must be asked for, in order.
        entry: What the manifest knows.
    """

    one: list[Answer]
    asked: list[tuple[str, str | None]]
    two: list[Answer] = field(default_factory=list)
    entry: WeightsEntry = field(default_factory=entry_of)


HALF = len(GOOD) // 2
REST = f'bytes={HALF}-'
GOOD_END = {
    'complete': Case([serve(GOOD)], [(ONE, None)]),
    'complete, only the prefix known': Case([serve(GOOD)], [(ONE, None)], entry=PREFIX),
    'complete, nothing known': Case([serve(GOOD)], [(ONE, None)], entry=UNCHECKED),
    'without a length': Case([chunked(GOOD, True)], [(ONE, None)]),
    'broken off, continued': Case(
        [serve(GOOD, stop_after=HALF), serve(GOOD)], [(ONE, None), (ONE, REST)]
    ),
    'broken off, continued by size alone': Case(
        [serve(GOOD, stop_after=HALF, etag=''), serve(GOOD, etag='')], [(ONE, None), (ONE, REST)]
    ),
    'broken off many times, farther each time': Case(
        [serve(GOOD, stop_after=50_000)],
        [(ONE, None), *((ONE, f'bytes={n}-') for n in range(50_000, len(GOOD), 50_000))],
    ),
    'broken off, ranges ignored': Case(
        [serve(GOOD, stop_after=HALF), serve(GOOD, ranges=False)], [(ONE, None), (ONE, REST)]
    ),
    'broken off, changed on the server': Case(
        [serve(OTHER, stop_after=HALF), serve(GOOD, etag='"2"')],
        [(ONE, None), (ONE, REST)],
        entry=UNCHECKED,
    ),
    'broken off, changed, and the server does not care': Case(
        [serve(OTHER, stop_after=HALF), serve(GOOD, etag='"2"', careful=False)],
        [(ONE, None), (ONE, REST), (ONE, None)],
        entry=UNCHECKED,
    ),
    'broken off, and nothing tells whether it is the same': Case(
        [serve(OTHER, stop_after=HALF), serve(GOOD, etag='', careful=False, total='*')],
        [(ONE, None), (ONE, REST), (ONE, None)],
        entry=UNCHECKED,
    ),
    'broken off, changed in silence': Case(
        [serve(OTHER, stop_after=HALF), serve(GOOD)], [(ONE, None), (ONE, REST), (ONE, None)]
    ),
    'broken off for ever where ranges are ignored': Case(
        [serve(GOOD, ranges=False, stop_after=HALF)],
        [(ONE, None), (ONE, REST), (ONE, REST), (TWO, None)],
        [serve(GOOD)],
    ),
    'broken off here and there where ranges are ignored': Case(
        [serve(GOOD, ranges=False, stop_after=n) for n in (HALF, 1000, HALF, 1000, HALF, 1000)],
        [(ONE, None), (ONE, REST), (ONE, 'bytes=1000-'), (TWO, None)],
        [serve(GOOD)],
    ),
    'chunks that end too early': Case(
        [chunked(GOOD[:HALF], False)],
        [(ONE, None), (ONE, REST), (ONE, REST), (TWO, None)],
        [serve(GOOD)],
    ),
    'stalls': Case(
        [serve(GOOD, stop_after=0, stall=True)],
        [(ONE, None), (ONE, None), (ONE, None), (TWO, None)],
        [serve(GOOD)],
    ),
    'stalls half-way, then goes on': Case(
        [serve(GOOD, stop_after=HALF, stall=True), serve(GOOD)], [(ONE, None), (ONE, REST)]
    ),
    '404': Case([status(404)], [(ONE, None), (TWO, None)], [serve(GOOD)]),
    '403': Case([status(403)], [(ONE, None), (TWO, None)], [serve(GOOD)]),
    '500 twice': Case([status(500), status(500), serve(GOOD)], [(ONE, None)] * 3),
    '500 for ever': Case([status(500)], [(ONE, None)] * 3 + [(TWO, None)], [serve(GOOD)]),
    '503 with the time to wait': Case(
        [status(503, Retry_After='0'), serve(GOOD)], [(ONE, None), (ONE, None)]
    ),
    'wrong bytes of the right size': Case(
        [serve(OTHER)], [(ONE, None), (TWO, None)], [serve(GOOD)]
    ),
    'wrong bytes against the prefix': Case(
        [serve(OTHER)], [(ONE, None), (TWO, None)], [serve(GOOD)], PREFIX
    ),
    'wrong bytes against what the server announced': Case(
        [serve(OTHER, X_Linked_Etag=f'"{SHA}"')],
        [(ONE, None), (TWO, None)],
        [serve(GOOD, X_Linked_Etag=f'"{SHA}"')],
        UNCHECKED,
    ),
    'announced too long': Case(
        [serve(GOOD, length=len(GOOD) + 9)], [(ONE, None), (TWO, None)], [serve(GOOD)]
    ),
    'announced too long, size not known': Case(
        [serve(GOOD, length=len(GOOD) + 9, ranges=False)],
        [(ONE, None), (ONE, f'bytes={len(GOOD)}-'), (ONE, f'bytes={len(GOOD)}-'), (TWO, None)],
        [serve(GOOD)],
        UNCHECKED,
    ),
    'announced too short': Case(
        [serve(GOOD, length=HALF)], [(ONE, None), (TWO, None)], [serve(GOOD)]
    ),
    'announced too short, size not known': Case(
        [serve(GOOD, length=HALF)], [(ONE, None), (TWO, None)], [serve(GOOD)], UNCHECKED
    ),
    'a web page in its place': Case(
        [serve(b'<!DOCTYPE html><html>Please log in</html>')],
        [(ONE, None), (TWO, None)],
        [serve(GOOD)],
        UNCHECKED,
    ),
    'redirect': Case(
        [status(302, Location='/elsewhere?signed=1')], [(ONE, None), ('/elsewhere?signed=1', None)]
    ),
    'redirect to a file on the disk': Case(
        [status(302, Location='file:///etc/passwd')], [(ONE, None), (TWO, None)], [serve(GOOD)]
    ),
}


@pytest.mark.parametrize('case', GOOD_END.values(), ids=GOOD_END)
def test_a_download_ends_well(case: Case, site: Site, tmp_path: Path) -> None:
    site.answers |= {ONE: list(case.one), TWO: list(case.two)}
    site.answers['/elsewhere?signed=1'] = [serve(GOOD)]
    listener = Listener()
    assert fetch(case.entry, settings(site, tmp_path), listener)
    assert [(seen.path, seen.range) for seen in site.seen] == case.asked
    assert (tmp_path / 'w.pth').read_bytes() == GOOD
    assert names(tmp_path) == ['w.pth'] + ['w.pth.sha256'] * (case.entry.sha256 is None)
    site.seen.clear()
    assert not fetch(case.entry, settings(site, tmp_path), listener)
    assert not site.seen


BAD_END: dict[str, tuple[Answer, Answer, str]] = {
    'absent everywhere': (status(404), status(410), r'one\.test\S+\s+HTTP 404.*HTTP 410'),
    'wrong bytes everywhere': (serve(OTHER), serve(OTHER), 'what came is not the file: sha256'),
    'a login is asked for': (status(401), status(403), r'HTTP 401.*HF_TOKEN'),
    'a web page everywhere': (
        serve(b'<html>' + b' ' * (len(GOOD) - 6)),
        status(404),
        'what came is not the file: it is a web page',
    ),
}


@pytest.mark.parametrize(('one', 'two', 'message'), BAD_END.values(), ids=BAD_END)
def test_nothing_wrong_gets_the_final_name(
    one: Answer, two: Answer, message: str, site: Site, tmp_path: Path
) -> None:
    site.answers |= {ONE: [one], TWO: [two]}
    with pytest.raises(DownloadError, match=f'(?s){message}') as raised:
        fetch(entry_of(), settings(site, tmp_path), Listener())
    assert str(tmp_path / 'w.pth') in str(raised.value)
    assert names(tmp_path) == []


def test_a_part_is_kept_when_everything_fails_and_continued_later(
    site: Site, tmp_path: Path
) -> None:
    site.answers[ONE] = [serve(GOOD, stop_after=HALF), status(500)]
    only = entry_of(urls=('https://one.test/w.pth',))
    with pytest.raises(DownloadError, match='HTTP 500'):
        fetch(only, settings(site, tmp_path), Listener())
    assert names(tmp_path) == ['w.pth.part', 'w.pth.part.json']
    site.answers[ONE] = [serve(GOOD)]
    listener = Listener()
    assert fetch(only, settings(site, tmp_path), listener)
    assert listener.starts == [HALF] and listener.bytes == len(GOOD) - HALF


@pytest.mark.parametrize('harm', ['no note', 'broken note', 'too long', 'whole'])
def test_odd_parts_do_no_harm(harm: str, site: Site, tmp_path: Path) -> None:
    part, note = tmp_path / 'w.pth.part', tmp_path / 'w.pth.part.json'
    part.write_bytes({'too long': GOOD + b'12', 'whole': GOOD}.get(harm, OTHER[:HALF]))
    if harm != 'no note':
        url = site.url + ONE
        note.write_text(json.dumps({'url': url, 'etag': '"1"', 'size': len(GOOD)}))
    if harm == 'broken note':
        note.write_text('{')
    site.answers[ONE] = [serve(GOOD)]
    assert fetch(entry_of(), settings(site, tmp_path), Listener())
    assert (tmp_path / 'w.pth').read_bytes() == GOOD
    expected = {'too long': [f'bytes={len(GOOD) + 2}-', None], 'whole': []}
    assert site.ranges() == expected.get(harm, [None])


def test_a_file_that_is_there_is_checked_and_never_replaced_unasked(
    site: Site, tmp_path: Path
) -> None:
    site.answers[ONE] = [serve(GOOD)]
    (tmp_path / 'w.pth').write_bytes(OTHER)
    with pytest.raises(DownloadError, match=r'sha256 .* expected .*download_checkpoints.py w --fo'):
        fetch(entry_of(), settings(site, tmp_path), Listener())
    assert not site.seen and (tmp_path / 'w.pth').read_bytes() == OTHER
    assert fetch(entry_of(), settings(site, tmp_path, force=True), Listener())
    assert (tmp_path / 'w.pth').read_bytes() == GOOD


def test_what_was_trusted_once_must_stay_the_same(site: Site, tmp_path: Path) -> None:
    site.answers[ONE] = [serve(GOOD)]
    assert fetch(UNCHECKED, settings(site, tmp_path), Listener())
    record = tmp_path / 'w.pth.sha256'
    assert record.read_text() == f'{SHA}  w.pth\n'
    (tmp_path / 'w.pth').write_bytes(OTHER)
    with pytest.raises(DownloadError, match=r'when it was downloaded \(w.pth.sha256\)'):
        fetch(UNCHECKED, settings(site, tmp_path), Listener())
    site.answers[ONE] = [serve(OTHER)]
    assert fetch(UNCHECKED, settings(site, tmp_path, force=True), Listener())
    assert recorded_sha256(tmp_path / 'w.pth') == hashlib.sha256(OTHER).hexdigest()


def test_a_file_copied_by_hand_is_trusted_once(site: Site, tmp_path: Path) -> None:
    (tmp_path / 'w.pth').write_bytes(GOOD)
    assert not fetch(UNCHECKED, settings(site, tmp_path, offline=True), Listener())
    assert recorded_sha256(tmp_path / 'w.pth') == SHA


def test_offline_nothing_is_asked(site: Site, tmp_path: Path) -> None:
    site.answers[ONE] = [serve(GOOD)]
    with pytest.raises(DownloadError, match=r'(?s)offline: .*https://one.test/w.pth.*w\.pth'):
        fetch(entry_of(), settings(site, tmp_path, offline=True), Listener())
    assert not site.seen


def test_without_a_network_the_message_has_addresses_and_folder(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))  # bound but not listening: refuses
        closed = Site(f'http://127.0.0.1:{free.getsockname()[1]}')
        with pytest.raises(UnreachableError) as raised:
            fetch(entry_of(), settings(closed, tmp_path), Listener())
    text = str(raised.value)
    assert f'{closed.url}{ONE}' in text and f'{closed.url}{TWO}' in text
    assert str(tmp_path / 'w.pth') in text and 'no connection' in text


def test_a_full_disk_is_said_and_the_part_kept(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.answers[ONE] = [serve(GOOD, stop_after=HALF), serve(GOOD)]
    usage = shutil.disk_usage(tmp_path)
    left = iter([usage.free, 10])
    monkeypatch.setattr(shutil, 'disk_usage', lambda _: usage._replace(free=next(left)))
    with pytest.raises(DownloadError, match=r'no space left .* MB more .* --dir'):
        fetch(entry_of(), settings(site, tmp_path), Listener())
    assert (tmp_path / 'w.pth.part').stat().st_size == HALF


@pytest.mark.skipif(not Path('/dev/full').exists(), reason='needs /dev/full')
def test_a_disk_that_gets_full_is_said(site: Site, tmp_path: Path) -> None:
    site.answers[ONE] = [serve(GOOD)]
    (tmp_path / 'w.pth.part').symlink_to('/dev/full')
    with pytest.raises(DownloadError, match='no space left'):
        fetch(entry_of(), settings(site, tmp_path), Listener())


def test_a_folder_that_cannot_be_written_is_said(site: Site, tmp_path: Path) -> None:
    (tmp_path / 'file').write_text('')
    with pytest.raises(DownloadError, match=r'cannot write to .*--dir'):
        fetch(entry_of(), settings(site, tmp_path / 'file' / 'sub'), Listener())


def test_of_two_downloads_at_once_one_asks(site: Site, tmp_path: Path) -> None:
    site.answers[ONE] = [serve(GOOD, step=20_000)]
    listeners = [Listener(), Listener()]
    results: list[bool] = []

    def work(listener: Listener) -> None:
        results.append(fetch(entry_of(), settings(site, tmp_path), listener))

    threads = [threading.Thread(target=work, args=(listener,)) for listener in listeners]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [False, True]
    assert site.paths() == [ONE]


# Mirrors and tokens


def test_the_order_of_addresses(tmp_path: Path) -> None:
    hub = entry_of(file='a+b.pt', urls=('https://huggingface.co/o/r/resolve/main/a%2Bb.pt',))
    environment = {'BMP_MIRROR': 'http://mirror:8000/w/', 'HF_ENDPOINT': 'https://hub.test/'}
    assert settings_from(environment, tmp_path).addresses(hub) == [
        'http://mirror:8000/w/a%2Bb.pt',
        'https://hub.test/o/r/resolve/main/a%2Bb.pt',
        'https://huggingface.co/o/r/resolve/main/a%2Bb.pt',
    ]
    assert settings_from({}, tmp_path).addresses(entry_of()) == list(entry_of().urls)


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
def test_who_gets_the_token(url: str, sent: bool, tmp_path: Path) -> None:
    chosen = settings_from({'HF_TOKEN': 'secret', 'HF_ENDPOINT': 'https://hub.test'}, tmp_path)
    assert (chosen.token_for(url) == 'secret') == sent
    assert 'secret' not in repr(chosen)


def test_a_redirect_does_not_carry_the_token_away(site: Site, tmp_path: Path) -> None:
    hub = entry_of(urls=('https://huggingface.co/o/r/resolve/main/w.pth',))
    with running_site() as elsewhere:
        path = '/o/r/resolve/main/w.pth'
        site.answers[path] = [status(307, Location='/renamed')]
        site.answers['/renamed'] = [
            status(302, Location=f'{elsewhere.url}/blob', X_Linked_Etag=f'"{SHA}"')
        ]
        elsewhere.answers['/blob'] = [serve(GOOD)]
        chosen = DownloadSettings(tmp_path, hf_endpoint=site.url, hf_token='secret')
        assert fetch(replace(hub, sha256=None), chosen, Listener())
        assert [s.headers.get('authorization') for s in site.seen] == ['Bearer secret'] * 2
        assert [s.headers.get('authorization') for s in elsewhere.seen] == [None]
        elsewhere.answers['/blob'] = [serve(OTHER)]
        local = replace(chosen, force=True)
        with pytest.raises(DownloadError, match='the server announced'):
            fetch(replace(hub, sha256=None), _only_endpoint(local), Listener())


def _only_endpoint(chosen: DownloadSettings) -> DownloadSettings:
    """Without huggingface.co itself, which tests must not ask."""

    class Only(DownloadSettings):
        def addresses(self, entry: WeightsEntry) -> list[str]:
            return super().addresses(entry)[:1]

    return Only(**{name: getattr(chosen, name) for name in chosen.__dataclass_fields__})


@pytest.mark.parametrize(
    ('environment', 'message'),
    [
        ({'BMP_MIRROR': 'mirror/w'}, "BMP_MIRROR must be an http.* 'mirror/w'"),
        ({'HF_ENDPOINT': 'ftp://hub'}, 'HF_ENDPOINT must be'),
    ],
)
def test_bad_settings_are_named(environment: dict[str, str], message: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=message):
        settings_from(environment, tmp_path)


@pytest.mark.parametrize('name', ['BMP_OFFLINE', 'HF_HUB_OFFLINE'])
@pytest.mark.parametrize(('value', 'offline'), [('1', True), ('TRUE', True), ('0', False)])
def test_offline_switches(name: str, value: str, offline: bool, tmp_path: Path) -> None:
    assert settings_from({name: value}, tmp_path).offline == offline


@pytest.mark.parametrize(
    ('old', 'new', 'followed'),
    [
        ('https://a.test/w', 'https://b.test/w', True),
        ('http://a.test/w', 'https://b.test/w', True),
        ('https://a.test/w', 'http://a.test/w', False),
        ('https://a.test/w', 'file:///etc/passwd', False),
        ('https://a.test/w', 'ftp://a.test/w', False),
    ],
)
def test_redirects_that_are_followed(old: str, new: str, followed: bool, tmp_path: Path) -> None:
    redirects = Redirects(DownloadSettings(tmp_path))

    def follow() -> urllib.request.Request | None:
        request = urllib.request.Request(old)
        return redirects.redirect_request(request, io.BytesIO(), 302, '', Message(), new)

    if followed:
        assert follow().full_url == new
    else:
        with pytest.raises(TransferError, match=f'refused to follow a redirect to {new}'):
            follow()
