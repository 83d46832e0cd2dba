"""Read files of `torch.save` as plain data.

A pickle may name any function of Python, and `torch.load(weights_only=True)` still calls about 100
functions of torch and those of NumPy that are needed for the log history of MMEngine. Here a name
in the file selects an inert stand-in from the table `_STAND_INS`, any other name is refused, and
tensors and arrays are built from checked sizes. Nothing else in the project unpickles.
"""

from __future__ import annotations

import io
import math
import pickle
import re
import struct
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import torch

LEGACY_MAGIC, LEGACY_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # torch before 1.6
STORAGES = {
    'FloatStorage': 'float32', 'DoubleStorage': 'float64', 'HalfStorage': 'float16',
    'BFloat16Storage': 'bfloat16', 'LongStorage': 'int64', 'IntStorage': 'int32',
    'ShortStorage': 'int16', 'CharStorage': 'int8', 'ByteStorage': 'uint8', 'BoolStorage': 'bool',
    'ComplexFloatStorage': 'complex64', 'ComplexDoubleStorage': 'complex128',
}  # fmt: skip


class Refused(pickle.UnpicklingError):
    """The file is intact, but holds more than plain data; the message is the reason."""


def read_pickled(path: Path) -> Any:
    """Read a file of `torch.save`, zip or older, to dicts, lists, numbers, tensors and arrays.

    Tensors are dense and on the CPU. Objects of `HistoryBuffer`, MMEngine's log history, are built
    anew from their numbers. The checksum (CRC-32) of every member of a zip file is checked.

    Raises:
        Refused: The file holds something else.
        Exception: Damaged files raise any exception.
    """
    with path.open('rb') as file:
        is_zip = file.read(2) == b'PK'
        file.seek(0)
        # Of a file on disk, `read(n)` allocates n bytes, whatever its size.
        content = _read_zip(file) if is_zip else _read_legacy(io.BytesIO(file.read()))
    return _to_plain(content, {})


class _Inert:
    """Keeps the arguments and the state of an object of the file, and does nothing."""

    arguments: tuple[Any, ...] = ()
    state: Any = None

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Mapping(OrderedDict[Any, Any]):
    """`OrderedDict`; state dicts have their versions as the attribute `_metadata`."""

    state: Any = None
    __setstate__ = _Inert.__setstate__


class _Counter(_Mapping):
    """`Counter`."""


class _DType(_Inert):
    def build(self) -> np.dtype[Any]:
        """Return the NumPy type: a number or bool of fixed size."""
        import numpy as np

        code, order = self.arguments[:1], self.state[1] if self.state else '|'
        if not code or not re.fullmatch(r'[biufc]\d{1,2}', str(code[0])) or order not in '<>|':
            raise Refused(f'it has a NumPy array of type {str(code)[:40]}; only numbers are read')
        return np.dtype(f'{order}{code[0]}')


class _Array(_Inert):
    def build(self) -> Any:
        """Return the NumPy array after a check of its size."""
        import numpy as np

        _, shape, dtype, by_column, data = self.state or (0, (), None, False, b'')
        if not isinstance(dtype, _DType) or not isinstance(data, bytes):
            raise Refused('it has a NumPy array of objects; only numbers are read')
        kind = dtype.build()
        _check_sizes(shape)
        if len(data) != math.prod(shape) * kind.itemsize:
            raise Refused(f'it has a NumPy array {shape} of {len(data)} bytes')
        order: Any = 'F' if by_column is True else 'C'
        return np.frombuffer(data, kind).reshape(shape, order=order).copy(order)


class _Scalar(_Inert):
    def build(self) -> Any:
        """Return the NumPy number."""
        dtype, data = self.arguments
        array = _Array()
        array.state = (1, (), dtype, False, data)
        return array.build()[()]


class _History(_Inert):
    def build(self) -> Any:
        """Return MMEngine's `HistoryBuffer` with the numbers of the file."""
        from mmengine.logging import HistoryBuffer

        state = self.state if isinstance(self.state, dict) else {}
        log, count = (state.get(name) for name in ('_log_history', '_count_history'))
        if not isinstance(log, _Array) or not isinstance(count, _Array):
            raise Refused('it has a log history that is no array of numbers')
        return HistoryBuffer(log.build(), count.build(), int(state['max_length']))


class _MethodName(_Inert):
    """``getattr``: the log history refers to its own methods by name; these are not needed."""


class _Bytes(_Inert):
    """``bytes()``: empty bytes."""

    def __new__(cls) -> Any:
        return b''


class _Encoded(_Inert):
    """``_codecs.encode``: bytes, as protocol 2 writes them."""

    def __new__(cls, text: str, codec: str) -> Any:
        if codec != 'latin1':
            raise Refused(f'it has bytes in the encoding {codec!r}')
        return text.encode(codec)


class _StorageType(_Inert):
    dtype = ''


class _Storage(_Inert):
    """Numbers of tensors, in one row."""

    def __init__(self, dtype: str, count: int, read: Callable[[int], bytearray]) -> None:
        import torch

        kind: torch.dtype = getattr(torch, dtype)
        self.count, self.data = count, read(count * kind.itemsize)
        if len(self.data) != count * kind.itemsize:
            raise Refused(f'it has {len(self.data)} bytes for {count} numbers of type {dtype}')
        self.flat = torch.frombuffer(self.data, dtype=kind) if count else torch.empty(0, dtype=kind)


class _Tensor(_Inert):
    def build(self) -> torch.Tensor:
        """Return the tensor after a check of its extent; gradients and hooks are left out."""
        import torch

        storage, offset, size, stride, *_ = self.arguments
        if not isinstance(storage, _Storage):
            raise Refused('it has a tensor without numbers')
        _check_sizes((offset, *size))
        _check_sizes(stride)
        count = math.prod(size)
        end = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) + 1
        if count > storage.count or (count and end > storage.count):
            raise Refused(
                f'it has a tensor of {tuple(size)} that stores only {storage.count} numbers; '
                'save a dense copy (tensor.contiguous())'
            )
        return torch.as_strided(storage.flat, size, stride, offset if count else 0)


class _Parameter(_Inert):
    def build(self) -> torch.Tensor:
        """Return the tensor of a parameter."""
        (data, *_) = self.arguments
        if not isinstance(data, _Tensor):
            raise Refused('it has a parameter without a tensor')
        return data.build()


_STAND_INS: dict[str, type] = {
    'torch._utils._rebuild_tensor_v2': _Tensor,
    'torch._utils._rebuild_parameter': _Parameter,
    'torch.Size': tuple,
    'collections.OrderedDict': _Mapping,
    'collections.Counter': _Counter,
    'builtins.set': set,
    'builtins.getattr': _MethodName,
    'builtins.bytes': _Bytes,
    '_codecs.encode': _Encoded,
    'numpy.ndarray': _Inert,
    'numpy.dtype': _DType,
    **{f'numpy.{core}.multiarray._reconstruct': _Array for core in ('core', '_core')},
    **{f'numpy.{core}.multiarray.scalar': _Scalar for core in ('core', '_core')},
    'mmengine.logging.history_buffer.HistoryBuffer': _History,
    **{
        f'torch.{name}': type(name, (_StorageType,), {'dtype': dtype})
        for name, dtype in STORAGES.items()
    },
}


class _Unpickler(pickle._Unpickler):
    """Unpickler in Python, which has no bounds to overrun; see `_STAND_INS`."""

    def __init__(self, file: IO[bytes], read: Callable[[str, int], bytearray]) -> None:
        super().__init__(file, encoding='utf-8')
        self._read, self.storages = read, dict[str, _Storage]()

    def find_class(self, module: str, name: str) -> Any:
        module = {'__builtin__': 'builtins'}.get(module, module)
        stand_in = _STAND_INS.get(f'{module}.{name}')
        if stand_in is not None:
            return stand_in
        if module.split('.')[0] == 'torch':
            raise Refused(
                f'it has more than dense CPU tensors ({module}.{name}); save its state dict alone, '
                'with plain tensors, and use that file'
            )
        raise Refused(
            f'it needs to run Python code ({module}.{name}), which is refused; '
            'if you trust its source, save its state dict alone and use that file'
        )

    def persistent_load(self, pid: Any) -> _Storage:
        tag, kind, key, _, count, *view = pid
        if tag != 'storage' or not issubclass(kind, _StorageType) or any(view):
            raise Refused(f'it refers to a {str(tag)[:40]!r} outside of the pickle')
        _check_sizes((count,))
        if key not in self.storages:
            self.storages[key] = _Storage(kind.dtype, count, partial(self._read, key))
        if (storage := self.storages[key]).count != count:
            raise Refused(f'it states two sizes of the storage {key!r}')
        return storage


def _check_sizes(sizes: Any) -> None:
    numbers = isinstance(sizes, tuple) and all(type(n) is int and 0 <= n < 1 << 48 for n in sizes)
    if not numbers or len(sizes) > 64:
        raise Refused(f'it has a tensor or an array of the size {str(sizes)[:60]}')


def _read_zip(file: IO[bytes]) -> Any:
    _check_one_disk(file)
    with zipfile.ZipFile(file) as archive:
        infos = archive.infolist()
        stored = all(info.compress_type == zipfile.ZIP_STORED for info in infos)
        if not stored or sum(info.file_size for info in infos) > file.seek(0, 2):
            raise Refused('its archive is compressed; torch.save does not do that')
        # Reading checks the CRC-32; members that are not used are checked, too.
        members = {info.filename: archive.read(info) for info in infos}
    roots = [name.removesuffix('data.pkl') for name in members if name.endswith('/data.pkl')]
    if len(roots) != 1 or members.get(f'{roots[0]}byteorder', b'little') != b'little':
        raise Refused('it is no archive of torch.save on a little-endian machine')

    def read(key: str, _: int) -> bytearray:
        return bytearray(members.pop(f'{roots[0]}data/{key}'))

    return _Unpickler(io.BytesIO(members.pop(f'{roots[0]}data.pkl')), read).load()


def _check_one_disk(file: IO[bytes]) -> None:
    """Check the last record of an archive; `zipfile` does not."""
    size = file.seek(0, 2)
    file.seek(max(0, size - (1 << 16) - 22))
    tail = file.read()
    at = tail.rfind(b'PK\x05\x06')
    disk, first, here, total = struct.unpack_from('<4H', tail, at + 4)
    if (disk, first) != (0, 0) or here != total:
        raise Refused('its archive has several disks')


def _read_legacy(file: io.BytesIO) -> Any:
    """Read pickles of a magic number, version, machine and content, then the storages."""
    room = len(file.getbuffer())

    def allocate(_: str, size: int) -> bytearray:
        nonlocal room
        room -= size
        if room < 0:
            raise EOFError('its tensors are larger than the file')
        return bytearray(size)

    def unpickle() -> Any:
        return _Unpickler(file, allocate).load()

    magic, version, machine = unpickle(), unpickle(), unpickle()
    if magic != LEGACY_MAGIC or version != LEGACY_PROTOCOL or not machine['little_endian']:
        raise Refused('it is no file of torch.save on a little-endian machine')
    reader = _Unpickler(file, allocate)
    content = reader.load()
    for key in unpickle():
        storage = reader.storages[key]
        count = int.from_bytes(file.read(8), 'little')
        view = memoryview(storage.data)
        if count != storage.count or file.readinto(view) != len(view):
            raise EOFError(f'the storage {key} is cut off')
    return content


def _to_plain(node: Any, done: dict[int, Any]) -> Any:
    """Replace the stand-ins in nested containers; an object that occurs twice stays one."""
    if id(node) in done:
        return done[id(node)]
    if isinstance(node, dict):
        plain: Any = _to_mapping(node, done)
    elif isinstance(node, (list, tuple, set)):
        plain = type(node)(_to_plain(item, done) for item in node)
    elif isinstance(node, (_Array, _Scalar, _History, _Tensor, _Parameter)):
        plain = node.build()
    elif node is None or isinstance(node, (bool, int, float, str, bytes)):
        plain = node
    else:
        kind = type(node).__name__.strip('_')
        raise Refused(f'it has an object of the kind {kind}; only tensors and numbers are read')
    done[id(node)] = plain
    return plain


def _to_mapping(node: Mapping[Any, Any], done: dict[int, Any]) -> dict[Any, Any]:
    odd = [key for key in node if type(key) not in (str, int)]
    if odd:
        raise Refused(f'it has a dict with the key {str(odd[0])[:40]!r}; keys are texts or numbers')
    plain = {key: _to_plain(value, done) for key, value in node.items()}
    if isinstance(node, _Counter):
        return Counter(plain)
    if not isinstance(node, _Mapping):
        return plain
    ordered = OrderedDict(plain)
    versions = _to_plain((node.state or {}).get('_metadata'), done)
    if versions is not None:
        if not all(isinstance(version, dict) for version in versions.values()):
            raise Refused('it has versions of modules that are no dicts')
        ordered._metadata = versions  # type: ignore[attr-defined]
    return ordered
