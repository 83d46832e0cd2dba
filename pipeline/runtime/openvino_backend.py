"""Backbones, necks and image encoders run by OpenVINO, on a CPU.

A module is converted at the first image, once for a single image and once for batches, and for
every size of its input. Converted models are kept in the user's cache folder, under a hash of the
module's weights and code.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import sys
import warnings
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import platformdirs
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ..io.atomic import atomic_file
from .wrapper import Wrapper

logger = logging.getLogger(__name__)

HINTS = {'fp32': 'f32', 'bf16': 'bf16'}
# Compiled models of one module. Further sizes of input are left to PyTorch: a conversion takes
# seconds, and every model has its own copy of the weights.
MAX_MODELS = 8
# Difference to PyTorch that a converted model may show, of the largest value of an output (or 1).
TOLERANCE = 1e-3


class OpenVino(Wrapper):
    """Runs a module through OpenVINO, with as many threads as PyTorch has.

    What cannot be converted, or is not the same after it, runs in PyTorch; the log says so.

    Args:
        module: in evaluation mode, on the CPU; takes float32 tensors (B, ...), possibly nested in
            lists and tuples, and gives tensors nested in lists, tuples and dicts.
        precision: of `HINTS`.
    """

    def __init__(self, module: nn.Module, precision: str = 'fp32') -> None:
        super().__init__(module)
        self.hint = HINTS[precision]
        self._store: Store | None = None
        self._compiled: dict[Any, _Compiled | None] = {}
        self._told = False

    def forward(self, *inputs: Any) -> Any:
        """Output of the module for tensors (B, ...), every tensor float32."""
        compiled = self._find(_Inputs.of(inputs))
        return self.module(*inputs) if compiled is None else compiled(inputs)

    def _find(self, inputs: _Inputs) -> _Compiled | None:
        """The model for a batch; None: PyTorch has to run it."""
        for batch in (1,) if inputs.count == 1 else (None, inputs.count):
            key = batch, inputs.sizes, torch.get_num_threads()
            if key not in self._compiled:
                if len(self._compiled) >= MAX_MODELS:
                    self._give_up(f'more than {MAX_MODELS} sizes of input')
                    return None
                self._compiled[key] = self._make(inputs, batch)
            if (found := self._compiled[key]) is not None:
                return found
        self._give_up(f'no model for inputs {inputs.sizes} in batches of {inputs.count}')
        return None

    def _make(self, inputs: _Inputs, batch: int | None) -> _Compiled | None:
        kind = f'{batch} {inputs.sizes} {inputs.spec}'
        self._store = self._store or Store(self.module)
        if converted := self._store.load(kind):
            return _Compiled(converted, self.hint)
        name = type(self.module).__name__
        what = 'batches' if batch is None else f'a batch of {batch}'
        logger.info(
            'converting %s for OpenVINO (%s, input %s): some seconds, only once; kept in %s',
            name, what, ', '.join('x'.join(map(str, size)) for size in inputs.sizes),
            cache_folder(),
        )  # fmt: skip
        try:
            converted = convert(self.module, inputs, batch)
            check(self.module, inputs, batch, converted)
        except _failures() as error:
            logger.warning('%s does not convert for %s: %s', name, what, _first_line(error))
            return None
        self._store.save(kind, converted)
        return _Compiled(converted, self.hint)

    def _give_up(self, reason: str) -> None:
        if not self._told:
            self._told = True
            name = type(self.module).__name__
            logger.warning('PyTorch runs %s in place of OpenVINO: %s', name, reason)


@dataclass(frozen=True)
class _Inputs:
    """What the inputs of a module look like."""

    count: int  # images
    sizes: tuple[tuple[int, ...], ...]  # of every tensor, without the batch
    spec: str  # how they are nested

    @classmethod
    def of(cls, inputs: Any) -> _Inputs:
        leaves, spec = pytree.tree_flatten(inputs)
        sizes = tuple(tuple(leaf.shape[1:]) for leaf in leaves)
        return cls(len(leaves[0]), sizes, pytree.treespec_dumps(spec))

    def noise(self, count: int, seed: int) -> Any:
        """Arguments of this kind for so many images; leaves PyTorch's own random numbers alone."""
        random = torch.Generator().manual_seed(seed)
        leaves = [torch.randn(count, *size, generator=random) for size in self.sizes]
        return pytree.tree_unflatten(leaves, pytree.treespec_loads(self.spec))


class _Flat(nn.Module):
    """A module with tensors as inputs and a tuple of tensors as output, as a trace has them."""

    def __init__(self, module: nn.Module, spec: Any) -> None:
        super().__init__()
        self.module = module
        self.spec = spec
        self.outputs: Any = None

    def forward(self, *leaves: Tensor) -> tuple[Tensor, ...]:
        found, self.outputs = pytree.tree_flatten(
            self.module(*pytree.tree_unflatten(leaves, self.spec))
        )
        if not all(isinstance(tensor, Tensor) for tensor in found):
            raise TypeError(f'gives more than tensors: {self.outputs}')
        return tuple(found)


def convert(module: nn.Module, inputs: _Inputs, batch: int | None) -> Converted:
    """A module as OpenVINO's model.

    Args:
        module: in evaluation mode.
        inputs: what it is given.
        batch: images at once; None: any number.

    Raises:
        RuntimeError, TypeError, ValueError, openvino.frontend.*Failure: it cannot be converted.
    """
    openvino = import_openvino()
    jit: Any = torch.jit
    leaves, spec = pytree.tree_flatten(inputs.noise(batch or 2, seed=0))
    flat = _Flat(module, spec).eval()
    shapes = [openvino.PartialShape([batch or -1, *size]) for size in inputs.sizes]
    with warnings.catch_warnings(), torch.no_grad():
        # What a trace takes for constant is a matter of `check`.
        warnings.simplefilter('ignore')
        traced = jit.trace(flat, tuple(leaves), check_trace=False)
        model = openvino.convert_model(traced, example_input=tuple(leaves), input=shapes)
    return Converted(*_serialized(model), pytree.treespec_dumps(flat.outputs))


def _serialized(model: Any) -> tuple[bytes, bytes]:
    """Graph (XML) and float32 weights."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / 'model.xml'
        import_openvino().save_model(model, str(path), compress_to_fp16=False)
        return path.read_bytes(), path.with_suffix('.bin').read_bytes()


def check(module: nn.Module, inputs: _Inputs, batch: int | None, converted: Converted) -> None:
    """Compares a converted model, in float32, with the module on other inputs.

    A trace for any batch is tried on another batch size than it was made with.

    Raises:
        RuntimeError: its shapes do not fit.
        ValueError: they differ.
    """
    count = batch or 3
    given = inputs.noise(count, seed=1)
    # Running a model with a wrong batch size baked in may crash the process; this only raises.
    model = _core().read_model(model=converted.graph, weights=converted.weights)
    model.reshape({i: [count, *size] for i, size in enumerate(inputs.sizes)})
    with torch.no_grad():
        expected = pytree.tree_leaves(module(*given))
    found = pytree.tree_leaves(_Compiled(converted, HINTS['fp32'])(given))
    for one, other in zip(expected, found, strict=True):
        if one.shape != other.shape:
            raise ValueError(f'gives shape {tuple(other.shape)}, PyTorch {tuple(one.shape)}')
        difference = float((one - other).abs().max())
        if not difference <= TOLERANCE * max(1.0, float(one.abs().max())):
            raise ValueError(f'gives other values than PyTorch, by up to {difference:.2g}')


class _Compiled:
    """A converted model ready to run.

    Args:
        converted: the model.
        hint: precision, of the values of `HINTS`.
    """

    def __init__(self, converted: Converted, hint: str) -> None:
        options: dict[str, Any] = {
            'PERFORMANCE_HINT': 'LATENCY',
            'INFERENCE_NUM_THREADS': torch.get_num_threads(),
            'INFERENCE_PRECISION_HINT': hint,
            # Several processes with one thread each would all be tied to the same core.
            'ENABLE_CPU_PINNING': False,
        }
        if (folder := writable_cache_folder()) is not None:
            options['CACHE_DIR'] = str(folder / 'compiled')
        model = _core().read_model(model=converted.graph, weights=converted.weights)
        self.run = _core().compile_model(model, 'CPU', options)
        self.outputs = pytree.treespec_loads(converted.outputs)

    def __call__(self, inputs: Sequence[Any]) -> Any:
        leaves = [leaf.detach().float().contiguous().numpy() for leaf in pytree.tree_leaves(inputs)]
        found = self.run(leaves, share_inputs=True)  # outputs are copied: the next run spares them
        tensors = [torch.from_numpy(found[i]) for i in range(len(found))]
        return pytree.tree_unflatten(tensors, self.outputs)


@functools.cache
def import_openvino() -> Any:
    """The package, without its usage statistics: it would send them to its maker unasked."""
    sys.modules.setdefault('openvino_telemetry', None)  # type: ignore[arg-type]
    import openvino

    return openvino


@functools.cache
def _core() -> Any:
    return import_openvino().Core()


def _failures() -> tuple[type[Exception], ...]:
    """What tracing and converting raise."""
    frontend = import_openvino().frontend
    own = [value for name, value in vars(frontend).items() if name.endswith('Failure')]
    return (RuntimeError, TypeError, ValueError, *own)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition('\n')[0] or type(error).__name__


@dataclass(frozen=True)
class Converted:
    """A model of OpenVINO."""

    graph: bytes  # XML
    weights: bytes  # float32
    outputs: str  # how PyTorch nests its outputs, as text


def cache_folder() -> Path:
    """Where converted models are kept; may be deleted at any time."""
    return platformdirs.user_cache_path('bbox-mask-pose') / 'openvino'


def writable_cache_folder() -> Path | None:
    """The cache folder, made if need be; None where nobody may write."""
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None


class Store:
    """Converted models of one module; its weights and code are part of the names of the files."""

    def __init__(self, module: nn.Module) -> None:
        self.versions = f'{fingerprint(module)} {torch.__version__} {version("openvino")}'

    def path(self, kind: str) -> Path:
        """File of the model for one kind of input."""
        key = hashlib.sha256(f'{self.versions} {kind}'.encode()).hexdigest()
        return cache_folder() / f'{key}.zip'

    def load(self, kind: str) -> Converted | None:
        """The model for one kind of input; None: there is none, or it is damaged."""
        path = self.path(kind)
        try:
            with zipfile.ZipFile(path) as archive:  # checks every part by its CRC
                graph, weights, outputs = map(archive.read, ('model.xml', 'model.bin', 'outputs'))
        except FileNotFoundError:
            return None
        except (OSError, zipfile.BadZipFile, KeyError, EOFError, ValueError) as error:
            logger.warning('%s is damaged (%s); it is made again', path, error)
            return None
        return Converted(graph, weights, outputs.decode())

    def save(self, kind: str, model: Converted) -> None:
        """Keep a model for the next start; where nobody may write, only the log says so."""
        path = self.path(kind)
        try:
            with atomic_file(path) as stream, zipfile.ZipFile(stream, 'w') as archive:
                archive.writestr('model.xml', model.graph)
                archive.writestr('model.bin', model.weights)
                archive.writestr('outputs', model.outputs)
        except OSError as error:
            logger.warning('the next start converts again: cannot write %s (%s)', path, error)


def fingerprint(module: nn.Module) -> str:
    """Hash of everything that decides what a module computes.

    That is its weights and buffers, its layers with their plain attributes (strides, window sizes,
    ...), and the files that define their classes.
    """
    digest = hashlib.sha256(str(module).encode())
    files = set()
    for name, part in module.named_modules():
        plain = sorted((key, repr(v)) for key, v in vars(part).items() if _is_plain(v))
        digest.update(repr((name, type(part).__qualname__, plain)).encode())
        files.add(getattr(sys.modules.get(type(part).__module__), '__file__', None))
    for file in sorted(filter(None, files)):
        digest.update(Path(file).read_bytes())
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        digest.update(f'{name} {tensor.dtype} {tuple(tensor.shape)}'.encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str))
