"""The manifest is checked; weights are found by name or path and verified."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.io.atomic import compute_sha256
from pipeline.weights import manifest
from pipeline.weights.checkpoints import find_all_weights, find_weights
from pipeline.weights.download import write_checksum
from pipeline.weights.manifest import (
    CheckpointError,
    ManifestError,
    manifest_json,
    parse_manifest,
    read_manifest,
)
from tests.web_server import fake_weights

ENTRY = {
    'file': 'big.pth', 'kind': 'pose', 'about': 'a big one', 'licence': 'MIT', 'source': 'example',
    'urls': ['https://example.org/big.pth', 'https://mirror.example.org/big.pth'],
    'size': None, 'sha256': None,
}  # fmt: skip


def parse(**changes: Any) -> manifest.WeightsEntry:
    values = {k: v for k, v in (ENTRY | changes).items() if v != 'left out'}
    return parse_manifest(json.dumps({'files': {'big': values}}), 'm.json')['big']


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'sha': 'x'}, r"'big': unknown sha; known: about, "),
        ({'licence': 'left out', 'kind': 'left out'}, "'big': kind, licence missing"),
        ({'licence': ''}, 'licence and source must be non-empty texts'),
        ({'file': '../big.pth'}, "file '../big.pth' must be a plain file name"),
        ({'file': '.big.pth'}, 'must be a plain file name'),
        ({'kind': 'depth'}, "kind 'depth' must be one of detector, pose, segmenter"),
        ({'urls': ['http://a.org/b.pth']}, "url 'http://a.org/b.pth' must start with https://"),
        ({'urls': ['https://a.org/']}, "url 'https://a.org/' must .* name a file"),
        ({'urls': 'https://a.org/b.pth'}, 'urls must be a list of texts'),
        ({'urls': []}, 'either embedded or has urls'),
        ({'embedded': True}, 'either embedded or has urls'),
        ({'embedded': 'yes'}, "embedded must be true or false, got 'yes'"),
        ({'embedded': True, 'urls': []}, 'an embedded file needs its size and sha256'),
        ({'sha256': 'ABC'}, r"sha256 must be \{64\} lower-case hex digits, got 'ABC'"),
        ({'sha256': 'a' * 63}, 'sha256 must be'),
        ({'sha256_prefix': '12'}, 'sha256_prefix must be'),
        ({'size': '12'}, "size must be a number of bytes or null, got '12'"),
        ({'size': True}, 'size must be'),
        ({'size': 0}, 'size must be'),
        ({'ignorable': 'head.'}, 'ignorable must be a list of texts'),
        ({'ignorable': ['']}, 'ignorable must be a list of texts'),
    ],
)
def test_a_wrong_entry_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        parse(**changes)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('{', 'm.json is not valid JSON'),
        ('[' * 100_000, 'm.json is not valid JSON: .*recursion'),
        ('[]', 'm.json must be'),
        (
            json.dumps({'files': {'a': ENTRY | {'urls': ['https://[/a.pth']}}}),
            'must start with https',
        ),
        ('{"files": {"a": 1}}', "entry 'a' must be a mapping, got 1"),
        ('{"files": {"a": {}, "a": {}}}', 'duplicate a'),
        (
            json.dumps({'files': {'a': ENTRY, 'b': ENTRY | {'file': 'BIG.pth'}}}),
            "'a' and 'b' name the same file 'BIG.pth'",
        ),
    ],
)
def test_a_wrong_manifest_is_refused(text: str, message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        parse_manifest(text, 'm.json')


@pytest.mark.parametrize('content', [b'\xff\xfe', b'{"files": "\xe4"}', b'\x80'])
def test_a_manifest_that_is_not_utf_8_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / 'm.json').write_bytes(content)
    with pytest.raises(ManifestError, match=r'cannot be read .*utf-8'):
        manifest.read_manifest(tmp_path / 'm.json')


def test_the_shipped_manifest() -> None:
    entries = read_manifest()
    assert parse_manifest(manifest.MANIFEST.read_text(), '') == entries
    assert manifest_json(entries) == manifest.MANIFEST.read_text()
    released = {
        *(f'PMPose-{size}-1.0.0' for size in 'sblh'),
        *(f'MaskPose-{size}-1.1.0' for size in 'sblh'),
        *(f'vitpose-{size}' for size in 'sblh'),
        *(f'sam2.1_hiera_{size}' for size in ('tiny', 'small', 'base_plus', 'large')),
        *(f'rtmdet-ins_{size}_coco' for size in ('tiny', 's', 'm', 'l')),
        'rtmdet-ins-l-mask', 'MaskPose-b-1.0.0', 'ViTPose-b-multi', 'SAM-pose2seg_hiera_b+',
    }  # fmt: skip
    embedded = {'rtmdet-ins_compact', 'vitpose_compact', 'sam2.1_cspnext_compact'}
    assert set(entries) == released | embedded
    for name, entry in entries.items():
        assert entry.embedded == (name in embedded)
        gpl = 'vrg-prague/BBoxMaskPose' in ''.join(entry.urls)
        assert entry.licence.startswith('GPL-3.0' if gpl else 'Apache-2.0')
        if 'openmmlab' in ''.join(entry.urls):  # the name of the file holds the hash
            assert f'-{entry.sha256_prefix}' in entry.file
        if name.startswith('PMPose'):
            assert entry.ignorable == ('head.error_layers.',)


def test_embedded_files_match_the_manifest() -> None:
    for entry in read_manifest().values():
        if entry.embedded:
            found = find_weights(entry.name)
            assert found.sha256 == entry.sha256
            assert found.path.stat().st_size == entry.size
            assert found.path.stat().st_size <= 16 * 2**20


def test_urls_match_those_of_the_installed_packages() -> None:
    import mmdet
    import mmpose

    configs = [
        Path(mmdet.__file__).parent / '.mim/configs/rtmdet/metafile.yml',
        Path(mmpose.__file__).parent
        / '.mim/configs/body_2d_keypoint/topdown_heatmap/coco/vitpose_coco.yml',
    ]
    if not all(path.is_file() for path in configs):
        pytest.skip('the packages come without their metafiles')
    known = ''.join(path.read_text() for path in configs)
    urls = [e.urls[0] for e in read_manifest().values() if e.source in ('MMDetection', 'MMPose')]
    assert len(urls) == 8
    assert [url for url in urls if url not in known] == []


# Finding files

GOOD, OTHER = fake_weights(2000), fake_weights(2000, seed=1)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoints folder with one embedded and two released entries."""
    (tmp_path / 'small.pth').write_bytes(GOOD)
    checked = {'size': len(GOOD), 'sha256': compute_sha256(tmp_path / 'small.pth')}
    small = ENTRY | {'file': 'small.pth', 'embedded': True, 'urls': []} | checked
    large = ENTRY | {'file': 'large.pth', 'size': 3_000_000}
    entries = {'small': small, 'big': ENTRY | {'ignorable': ['head.extra.']}, 'large': large}
    (tmp_path / 'manifest.json').write_text(json.dumps({'files': entries}))
    monkeypatch.setattr(manifest, 'FOLDER', tmp_path)
    monkeypatch.setattr(manifest, 'MANIFEST', tmp_path / 'manifest.json')
    monkeypatch.setenv('BMP_CHECKPOINTS', str(tmp_path / 'downloads'))
    (tmp_path / 'downloads').mkdir()
    return tmp_path


def test_an_embedded_file_is_found_and_checked(folder: Path) -> None:
    assert find_weights('small').path == folder / 'small.pth'
    (folder / 'small.pth').write_bytes(OTHER)
    with pytest.raises(CheckpointError, match=r'sha256 .* expected .*git checkout'):
        find_weights('small')
    (folder / 'small.pth').unlink()
    with pytest.raises(CheckpointError, match='git checkout'):
        find_weights('small')


def test_a_released_file_that_is_absent_names_urls_folder_and_command(folder: Path) -> None:
    with pytest.raises(CheckpointError) as raised:
        find_weights('big')
    text = str(raised.value)
    for part in (
        'from https://example.org/big.pth',
        'or   https://mirror.example.org/big.pth',
        f'to   {folder / "downloads" / "big.pth"}',
        'python tools/download_checkpoints.py big',
    ):
        assert part in text
    (folder / 'downloads' / 'big.pth').write_bytes(GOOD)
    found = find_weights('big')
    assert found.sha256 == compute_sha256(folder / 'downloads' / 'big.pth')
    assert found.ignorable == ('head.extra.',)


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (OTHER, r'sha256 .* after the download \(big.pth.sha256\).* big --force'),
        (GOOD[:-30], 'it is truncated'),
    ],
)
def test_a_released_file_that_is_wrong_is_never_used(
    content: bytes, message: str, folder: Path
) -> None:
    path = folder / 'downloads' / 'big.pth'
    path.write_bytes(GOOD)
    write_checksum(path, compute_sha256(path))
    assert find_weights('big')
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        find_weights('big')


def test_a_damaged_record_is_an_error(folder: Path) -> None:
    (folder / 'downloads' / 'big.pth').write_bytes(GOOD)
    (folder / 'downloads' / 'big.pth.sha256').write_text('sha256: none')
    with pytest.raises(CheckpointError, match=r'big\.pth\.sha256 has no sha256'):
        find_weights('big')


def test_one_error_lists_all_problems(folder: Path) -> None:
    (folder / 'here.pth').write_bytes(GOOD)
    config = folder / 'config.py'
    found = find_all_weights(['small', None, 'here.pth'], config)
    assert [w and w.name for w in found] == ['small', None, 'here.pth']
    with pytest.raises(CheckpointError) as raised:
        find_all_weights(['big', 'large', 'missing.pth', 'small'], config)
    text = str(raised.value)
    assert "no weights 'missing.pth'" in text
    assert '2 weights are missing (3.0 MB and 1 of unpublished size)' in text
    assert 'python tools/download_checkpoints.py big large' in text
    with pytest.raises(CheckpointError, match='Download: fetch them all: big'):
        find_all_weights(['big'], config, lambda names: f'fetch them all: {" ".join(names)}')


def test_a_path_is_relative_to_the_config_first(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / 'here').mkdir()
    (tmp_path / 'there').mkdir()
    monkeypatch.chdir(tmp_path / 'here')
    (tmp_path / 'here' / 'w.pth').write_bytes(b'here')
    assert find_weights('w.pth', tmp_path / 'there' / 'config.py').path.read_bytes() == b'here'
    (tmp_path / 'there' / 'w.pth').write_bytes(b'there')
    assert find_weights('w.pth', tmp_path / 'there' / 'config.py').path.read_bytes() == b'there'
    with pytest.raises(
        CheckpointError, match=r"no weights 'x.pth': neither a file nor one of: big, large, small"
    ):
        find_weights('x.pth')
