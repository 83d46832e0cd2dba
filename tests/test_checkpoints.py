"""Weights are found by name or path and never loaded with a wrong checksum."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline import checkpoints
from pipeline.checkpoints import CheckpointError, find_weights, read_manifest, sha256_of


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoints folder with one embedded and one released entry."""
    (tmp_path / 'small.pth').write_bytes(b'weights')
    entries = {
        'small': {
            'file': 'small.pth',
            'embedded': True,
            'sha256': sha256_of(tmp_path / 'small.pth'),
        },
        'big': {'file': 'big.pth', 'urls': ['https://example.org/big.pth'], 'sha256': None},
    }
    (tmp_path / 'manifest.json').write_text(json.dumps({'files': entries}))
    monkeypatch.setattr(checkpoints, 'FOLDER', tmp_path)
    monkeypatch.setattr(checkpoints, 'MANIFEST', tmp_path / 'manifest.json')
    monkeypatch.setenv('BMP_CHECKPOINTS', str(tmp_path / 'downloads'))
    return tmp_path


def test_an_embedded_file_is_found_and_checked(folder: Path) -> None:
    assert find_weights('small').path == folder / 'small.pth'
    (folder / 'small.pth').write_bytes(b'damaged')
    with pytest.raises(CheckpointError, match=r'sha256 .* expected'):
        find_weights('small')
    (folder / 'small.pth').unlink()
    with pytest.raises(CheckpointError, match='git checkout -- checkpoints'):
        find_weights('small')


def test_a_released_file_that_is_absent_names_url_and_folder(folder: Path) -> None:
    with pytest.raises(CheckpointError, match=r'https://example.org/big.pth .*downloads/big.pth'):
        find_weights('big')
    (folder / 'downloads').mkdir()
    (folder / 'downloads' / 'big.pth').write_bytes(b'1')
    assert find_weights('big').sha256 == sha256_of(folder / 'downloads' / 'big.pth')


def test_a_path_is_looked_for_beside_the_config_first(
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
        CheckpointError, match=r"no weights 'x.pth': neither a file nor one of: big, small"
    ):
        find_weights('x.pth')


def test_every_embedded_file_is_what_the_manifest_says() -> None:
    for name, entry in read_manifest().items():
        if entry.get('embedded'):
            assert find_weights(name).sha256 == entry['sha256']
            assert find_weights(name).path.stat().st_size == entry['size'] <= 16 * 2**20
        else:
            assert entry['urls'] and entry['licence'] and entry['source']
