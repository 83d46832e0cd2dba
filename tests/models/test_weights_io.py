"""Weights are loaded without running code, and every key must match the model."""

from __future__ import annotations

import functools
import io
import os
import pickle
import warnings
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.weights.loading import load_into, load_state, read_checkpoint
from pipeline.weights.manifest import CheckpointError
from pipeline.weights.unpickling import STORAGES

pytestmark = pytest.mark.filterwarnings('ignore:.*(Sparse|Typed|nested|quant).*:UserWarning')


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
        (PLAIN.replace(b'state_dict', b'state_dic\xff'), r'it is damaged \(Bad CRC-32'),
        (PLAIN[:3000] + bytes(2000) + PLAIN[5000:], r'it is damaged \(Bad CRC-32 .*data/0'),
        (PLAIN.replace(b'cpu', b'gpu'), r'it is damaged \(Bad CRC-32'),
        (PLAIN[:-18] + b'\1' + PLAIN[-17:], 'its archive has several disks'),
        (PLAIN[:-16] + b'\1' + PLAIN[-15:], 'its archive has several disks'),
        (PLAIN[:-14] + b'\1' + PLAIN[-13:], 'its archive has several disks'),
    ],
    ids=[
        'empty', 'page', 'page in capitals', 'xml error', 'git-lfs pointer', 'json error',
        'end lost', 'most lost', 'old format, end lost', 'old format, most lost', 'pickle lost',
        'damaged', 'zeros', 'device', 'disk', 'first disk', 'entries of disk',
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


class Call:
    """Pickles as a call of ``function``; ``state`` is set on the result."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None) -> None:
        self.call = (function, arguments, *([] if state is None else [state]))

    def __reduce__(self) -> Any:
        return self.call


def history(log: Any, count: Any) -> Any:
    from mmengine.logging import HistoryBuffer

    state = {'_log_history': log, '_count_history': count, 'max_length': 9}
    return Call(HistoryBuffer.__new__, HistoryBuffer) if log is None else Call(
        HistoryBuffer, state=state
    )  # fmt: skip


def quantised() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)


ROW = torch.arange(6.0)
REBUILD = torch._utils._rebuild_tensor_v2
RECONSTRUCT = np.zeros(0).__reduce__()[0]
NUMBERS = np.dtype('f8')
ARRAY = (RECONSTRUCT, np.ndarray, (0,), b'b')
CYCLE: list[Any] = []
CYCLE.append(CYCLE)
DENSE, OBJECTS, NO_CODE = 'more than dense CPU tensors', 'array of objects', 'to run Python code'
# What stands under `meta` or as a weight, and the message.
FOREIGN = {
    'sparse': (lambda: ROW.to_sparse(), DENSE),
    'sparse rows': (lambda: torch.eye(3).to_sparse_csr(), DENSE),
    'quantised': (quantised, DENSE),
    'meta device': (lambda: torch.empty(2, device='meta'), DENSE),
    'nested': (lambda: torch.nested.nested_tensor([ROW, ROW[:2]]), DENSE),
    'float8': (lambda: ROW.to(torch.float8_e4m3fn), DENSE),
    'attributes': (lambda: Call(torch._utils._rebuild_parameter_with_state, 1, 2, 3, 4), DENSE),
    'device': (lambda: torch.device('cpu'), DENSE),
    'expanded': (lambda: torch.ones(1).expand(1 << 40), 'stores only 1 numbers'),
    'beyond its end': (lambda: Call(REBUILD, ROW.storage(), 3, (4,), (1,), False, {}), 'stores on'),
    'negative offset': (lambda: Call(REBUILD, ROW.storage(), -1, (1,), (1,), False, {}), 'size'),
    'negative stride': (lambda: Call(REBUILD, ROW.storage(), 5, (2,), (-1,), False, {}), 'size'),
    'huge size': (lambda: Call(REBUILD, ROW.storage(), 0, (1 << 62, 0), (1, 1), 0, {}), 'size'),
    'no storage': (lambda: Call(REBUILD, 'x', 0, (1,), (1,), False, {}), 'without numbers'),
    'storage alone': (lambda: ROW.storage(), 'object of the kind Storage'),
    'object array': (lambda: np.array([{}, 1], object), OBJECTS),
    'object array, called': (lambda: Call(np.ndarray, (9,), np.dtype('O')), 'kind Inert'),
    'numbers as objects': (lambda: Call(*ARRAY, state=(1, (9,), NUMBERS, False, [1])), OBJECTS),
    'array too short': (lambda: Call(*ARRAY, state=(1, (9,), NUMBERS, False, b'1')), 'of 1 bytes'),
    'array too large': (lambda: Call(*ARRAY, state=(1, (1 << 50,), NUMBERS, False, b'')), 'size'),
    'array without state': (lambda: Call(*ARRAY), OBJECTS),
    'text array': (lambda: np.array(['a', 'b']), 'only numbers are read'),
    'record array': (lambda: np.zeros(2, 'f4,i4'), 'only numbers are read'),
    'object scalar': (lambda: Call(np.float32(0).__reduce__()[0], np.dtype('O'), b'1'), 'only num'),
    'history of objects': (lambda: history([1], [1]), 'log history that is no array'),
    'history of tensors': (lambda: history(ROW, ROW), 'log history that is no array'),
    'history without state': (lambda: Call(type(history(1, 1).call[0]), 1), NO_CODE),
    'many bytes': (lambda: Call(bytes, 1 << 40), 'damaged'),
    'another attribute': (lambda: Call(getattr, 'a', 'upper'), 'kind MethodName'),
    'a class': (lambda: np.ndarray, 'kind type'),
    'a function': (lambda: os.getcwd, NO_CODE),
    'a model': (lambda: nn.Linear(1, 1), 'more than dense CPU tensors .torch.nn.modules.linear'),
    'a partial': (lambda: functools.partial(print, 1), NO_CODE),
    'a path': (lambda: Path('x'), NO_CODE),
    'a list in itself': (lambda: CYCLE, 'damaged'),
    'keys': (lambda: {(1, 2): 3}, r'a dict with the key .\(1, 2\)'),
    'bytes as key': (lambda: {b'a': 3}, 'a dict with the key'),
    'a state of a class': (lambda: Call(np.ndarray, state=(None, {'build': 1})), 'kind Inert'),
}


@pytest.mark.parametrize('place', ['state_dict', 'meta'])
@pytest.mark.parametrize('name', FOREIGN)
def test_anything_but_plain_data_is_refused_in_a_line(
    name: str, place: str, tmp_path: Path
) -> None:
    make, message = FOREIGN[name]
    value = {'state_dict': dict(STATE), 'meta': {}}
    value[place]['x'] = make()
    path = tmp_path / 'w.pth'
    path.write_bytes(saved(value))
    with pytest.raises(CheckpointError, match=message) as raised:
        load_state(path)
    assert '\n' not in str(raised.value)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'meta': [1]}, 'has a list as `meta`, expected a dict'),
        ({'meta': ROW}, 'has a Tensor as `meta`'),
        ({'meta': 'x'}, 'has a str as `meta`'),
        ({'meta': {'dataset_meta': ROW}}, 'as `meta`'),
        ({'meta': {'dataset_meta': [1]}}, 'as `meta`'),
        ({'meta': {'dataset_meta': {'from_file': 'x.py'}}}, 'names a Python file'),
        ({'meta': {'dataset_meta': {'classes': 3}}}, 'class names that are no list: 3'),
        ({'meta': {'CLASSES': ROW}}, 'class names that are no list'),
        ({'state_dict': {'a\nb': ROW / 0}}, 'infinite: a b$'),
        ({'state_dict': {3: ROW}}, 'no state dict of tensors: 3'),
        ({'state_dict': {'a': ROW, 'b': ROW.numpy()}}, 'no state dict of tensors: b'),
        ({'state_dict': {'a': ROW, 'b': ROW / 0, 'c': ROW / 0}}, 'NaN or infinite: b$'),
        ({'state_dict': {'a': ROW.half() / 0}}, 'NaN or infinite: a$'),
        ({'state_dict': {'a': -ROW[1:].bfloat16() / 0}}, 'NaN or infinite: a$'),
        ({'state_dict': {'a': ROW.double().log()}}, 'NaN or infinite: a$'),
        ({'state_dict': {'a': ROW, 'b': ROW + 1j}}, 'complex weights: b$'),
    ],
)
def test_wrong_weights_are_refused_with_the_first_key(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    (tmp_path / 'w.pth').write_bytes(saved({'state_dict': STATE, 'meta': {}} | change))
    with pytest.raises(CheckpointError, match=message):
        load_state(tmp_path / 'w.pth')


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (b']' * 9999 + b'a' * 9998, 'damaged'),
        (b'}r\xff\xff\xff\xff', 'no state dict of tensors: it is empty'),
        (pickle.dumps(Path('x'), 4)[2:-1], NO_CODE),
        (pickle.dumps(Path('x'), 0)[:-1], NO_CODE),
        (b'(idataclasses\nfield\n', r'damaged \(|Python code'),
        (b'(Vx\nios\nsystem\n', r'Python code \(os.system\)'),
        (b'ccollections\nCounter\nN}(X\6\0\0\0updateK\1u\x86b', 'damaged'),
        (b'ccollections\nOrderedDict\nN}(X\5\0\0\0itemsK\1u\x86b', 'damaged'),
        (b'\x82\1', 'damaged'),
        (b'I' + b'9' * 5000 + b'\n', 'damaged'),
    ],
    ids=[
        'nested', 'far memo', 'protocol 4', 'protocol 0', 'instance', 'instance of a module',
        'state of a counter', 'state of a class', 'extension', 'long number',
    ],
)  # fmt: skip
def test_pickles_that_torch_does_not_write(content: bytes, message: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / 'w.pth', 'w') as archive:
        archive.writestr('a/data.pkl', b'\x80\2' + content + b'.')
    with pytest.raises(CheckpointError, match=message):
        load_state(tmp_path / 'w.pth')
    assert Counter.update.__qualname__ == 'Counter.update'


def test_a_compressed_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / 'w.pth'
    with zipfile.ZipFile(io.BytesIO(PLAIN)) as old, zipfile.ZipFile(path, 'w', 8) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    with pytest.raises(CheckpointError, match='archive is compressed'):
        load_state(path)


@pytest.mark.parametrize('legacy', [False, True])
def test_all_plain_data_is_read_as_torch_reads_it(legacy: bool, tmp_path: Path) -> None:
    both = nn.Linear(3, 2)
    content = {
        'state_dict': both.state_dict(),
        'views': [ROW[1:3], ROW.reshape(2, 3).T, ROW[:0], nn.Parameter(ROW)],
        'meta': {'sizes': (1, 2.5, None, True), 'names': {'a'}, 4: torch.Size([1])},
        'counts': Counter([3, 3, 4]),
        'arrays': [np.arange(6.0).reshape(2, 3).T, np.zeros(0), np.float32(2), np.array([True])],
        'kinds': [torch.ones(2, dtype=getattr(torch, kind)) for kind in STORAGES.values()],
    }
    path = tmp_path / 'w.pth'
    path.write_bytes(saved(content, legacy=legacy))
    read, reference = read_checkpoint(path), torch.load(path, weights_only=False)
    assert read['state_dict']._metadata == both.state_dict()._metadata
    assert type(read['counts']) is Counter and read['counts'][3] == 2
    assert repr(read) == repr(reference).replace(', requires_grad=True', '').replace(
        'Parameter containing:\ntensor', 'tensor'
    ).replace('torch.Size([1])', '(1,)')


@pytest.mark.parametrize('key', ['state_dict', 'model'])
def test_the_prefix_of_data_parallel_is_removed(key: str, tmp_path: Path) -> None:
    (tmp_path / 'w.pth').write_bytes(saved({key: {f'module.{k}': v for k, v in STATE.items()}}))
    assert list(load_state(tmp_path / 'w.pth', key)[0]) == list(STATE)
    mixed = {'module.a': ROW, 'b': ROW}
    (tmp_path / 'w.pth').write_bytes(saved({key: mixed}))
    assert list(load_state(tmp_path / 'w.pth', key)[0]) == list(mixed)


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
