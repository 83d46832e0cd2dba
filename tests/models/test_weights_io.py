"""Weights are loaded without running code, and every key must match the model."""

from __future__ import annotations

import io
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.weights.loading import load_into, load_state
from pipeline.weights.manifest import CheckpointError


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.mkdir, (str(self.path),))


def saved(content: Any, *, legacy: bool = False) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


STATE = {'a': torch.arange(2000.0), 'n': torch.tensor(3)}
PLAIN = saved({'state_dict': STATE})
LEGACY = saved({'state_dict': STATE}, legacy=True)


@pytest.mark.parametrize('legacy', [False, True])
@pytest.mark.parametrize('key', ['state_dict', 'model'])
def test_weights_and_meta_are_read(key: str, legacy: bool, tmp_path: Path) -> None:
    from mmengine.logging import HistoryBuffer

    half = {k: v.half() if v.is_floating_point() else v for k, v in STATE.items()}
    content = {key: half, 'meta': {'k': np.float64(3)}}
    if not legacy:
        content['message_hub'] = {'loss': HistoryBuffer([1.0], [1])}
    (tmp_path / 'w.pth').write_bytes(saved(content, legacy=legacy))
    weights, meta = load_state(tmp_path / 'w.pth', key)
    assert weights['a'].dtype == torch.float32 and weights['n'].dtype == torch.int64
    assert weights['a'][:3].tolist() == [0, 1, 2] and meta == {'k': 3}


def test_a_bare_state_dict_is_read(tmp_path: Path) -> None:
    (tmp_path / 'w.pth').write_bytes(saved(STATE))
    weights, meta = load_state(tmp_path / 'w.pth')
    assert set(weights) == {'a', 'n'} and meta == {}


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (b'', 'it is empty'),
        (b'<!DOCTYPE html><html><title>404</title></html>', 'it is a web page'),
        (b'\n <HTML>log in</HTML>', 'it is a web page'),
        (b'<?xml version="1.0"?><Error>AccessDenied</Error>', 'it is a web page'),
        (b'version https://git-lfs.github.com/spec/v1\noid sha256:1', 'git lfs pull'),
        (b'{"error": "Repository not found"}', 'not a file of torch.save'),
        (PLAIN[:-100], 'it is truncated'),
        (PLAIN[:1000], 'it is truncated'),
        (LEGACY[:-100], r'it is damaged \('),
        (LEGACY[:60], r'it is damaged \('),
        (b'\x80\x02}q\x00(X', r'it is damaged \('),
        (PLAIN.replace(b'state_dict', b'state_dic\xff'), r'it is damaged \('),
    ],
    ids=[
        'empty', 'page', 'page in capitals', 'xml error', 'git-lfs pointer', 'json error',
        'end lost', 'most lost', 'old format, end lost', 'old format, most lost', 'pickle lost',
        'damaged',
    ],
)  # fmt: skip
@pytest.mark.parametrize('key', ['state_dict', 'model'])
def test_invalid_files_are_refused(content: bytes, message: str, key: str, tmp_path: Path) -> None:
    path = tmp_path / 'w.pth'
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=f'(?s)w.pth cannot be read as weights: .*{message}'):
        load_state(path, key)


@pytest.mark.parametrize('key', ['state_dict', 'model'])
@pytest.mark.parametrize('form', ['zip', 'legacy', 'bare pickle'])
def test_code_is_refused_and_not_run(form: str, key: str, tmp_path: Path) -> None:
    content = {key: STATE, 'meta': Evil(tmp_path / 'made')}
    path = tmp_path / 'evil.pth'
    if form == 'bare pickle':
        path.write_bytes(pickle.dumps(content['meta'], protocol=2))
    else:
        path.write_bytes(saved(content, legacy=form == 'legacy'))
    with pytest.raises(CheckpointError, match=r'needs to run Python code \(posix.mkdir\)'):
        load_state(path, key)
    assert not (tmp_path / 'made').exists()


@pytest.mark.parametrize(
    ('content', 'key', 'message'),
    [
        ({'state_dict': STATE}, 'model', 'under the key `model`: keys state_dict'),
        ([1], 'state_dict', 'under the key `state_dict`: no dict'),
        ({'state_dict': {'a': 1}}, 'state_dict', 'no state dict of tensors: a'),
        ({'model': {'a': STATE}}, 'model', 'no state dict of tensors: a'),
        ({'optimizer': {}}, 'state_dict', 'no state dict of tensors: optimizer'),
        ({'state_dict': {}}, 'state_dict', 'no state dict of tensors: it is empty'),
    ],
)
def test_files_without_weights(content: Any, key: str, message: str, tmp_path: Path) -> None:
    (tmp_path / 'w.pth').write_bytes(saved(content))
    with pytest.raises(CheckpointError, match=message):
        load_state(tmp_path / 'w.pth', key)


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.ModuleDict({'body': nn.Linear(2, 2), 'extra': nn.Linear(3, 1)})


def test_every_key_must_fit_but_the_ignorable_ones() -> None:
    source = Path('w.pth')
    weights = {k: v + 1 for k, v in model().state_dict().items()}
    net = model()
    load_into(net, weights, source)
    assert all((net.state_dict()[k] == v).all() for k, v in weights.items())

    odd = dict(weights)
    del odd['body.bias'], odd['extra.bias']
    odd |= {'extra.weight': torch.ones(7), 'extra.old': torch.ones(1), 'new': torch.ones(1)}
    with pytest.raises(CheckpointError) as raised:
        load_into(model(), odd, source)
    assert str(raised.value) == (
        'w.pth does not fit the config: missing: body.bias, extra.bias; unexpected: extra.old, '
        'new; of another shape: extra.weight (7,), expected (1, 3)'
    )
    with pytest.raises(CheckpointError, match=r'missing: body.bias; unexpected: new$'):
        load_into(model(), odd, source, ('extra.',))

    odd['body.bias'] = weights['body.bias']
    net = model()
    load_into(net, odd, source, ('extra.', 'new'))
    before = model().state_dict()
    assert (net.state_dict()['body.weight'] == weights['body.weight']).all()
    assert (net.state_dict()['extra.weight'] == before['extra.weight']).all()
    assert (net.state_dict()['extra.bias'] == before['extra.bias']).all()
