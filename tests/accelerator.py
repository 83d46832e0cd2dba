"""A simulated accelerator: tensors that compute on the CPU and claim to be on another device.

    with simulated_accelerator() as device:
        people = load_pipeline('bmp_compact', {'runtime.device': device})(image)

As on a real one, an operator on tensors of two devices fails, `.numpy()` fails, an index on the
device does not fit a CPU tensor, and operators of mmcv have no kernel, as without a CUDA toolkit.
Autocast casts the operators of `HALF`. In float32 the results equal those of the CPU exactly.
Streams, memory, speed and the arithmetic of GPU kernels are not simulated.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

NAME = 'simgpu'
HALF = ('conv2d', 'linear', 'matmul', 'scaled_dot_product_attention')
MOVES = ('_to_copy', 'copy_', 'to')


class SimulatedTensor(torch.Tensor):
    """`host` is the CPU tensor that holds the values."""

    host: torch.Tensor

    @staticmethod
    def __new__(cls, host: torch.Tensor) -> SimulatedTensor:
        tensor = torch.Tensor._make_wrapper_subclass(
            cls, host.size(), strides=host.stride(), storage_offset=host.storage_offset(),
            dtype=host.dtype, device=torch.device(NAME, 0),
        )  # fmt: skip
        tensor.host = host
        return tensor

    def __init__(self, host: torch.Tensor) -> None:
        """`__new__` does it all."""

    def __repr__(self) -> str:
        return f'{NAME}({self.host})'

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})


def is_here(device: Any) -> bool:
    return device is not None and torch.device(device).type == NAME


def to_host(value: Any) -> Any:
    if isinstance(value, SimulatedTensor):
        return value.host
    return torch.device('cpu') if isinstance(value, torch.device) else value


def compute(func: Any, args: Any, kwargs: Any) -> Any:
    """Run an operator on the CPU; its results are where a real one would leave them."""
    name = func.overloadpacket.__name__
    leaves = tree_leaves((args, kwargs))
    ours = [x for x in leaves if isinstance(x, SimulatedTensor)]
    if ours and name not in MOVES:
        check_devices(name, leaves)
    devices = [x for x in leaves if isinstance(x, torch.device)]
    if name == 'to' and not devices and isinstance(args[-1], torch.Tensor):  # like another tensor
        devices = [args[-1].device]
    stays_here = is_here(devices[0]) if devices else bool(ours)
    result = func(*tree_map(to_host, tuple(args)), **tree_map(to_host, kwargs))
    if name == 'copy_':
        return args[0]

    def place(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        same = [x for x in ours if x.host is value]
        if stays_here:
            return same[0] if same else SimulatedTensor(value)
        return value.clone() if same else value  # no storage is shared between devices

    return tree_map(place, result)


def check_devices(name: str, leaves: list[Any]) -> None:
    # Scalars mix with any device; indices of a tensor on the device may be on the CPU.
    strange = [
        tuple(x.shape)
        for x in leaves
        if isinstance(x, torch.Tensor) and not isinstance(x, SimulatedTensor) and x.dim()
    ]
    if strange and 'index' not in name:
        raise RuntimeError(
            'Expected all tensors to be on the same device, but found at least two devices, '
            f'{NAME}:0 and cpu, in {name}: shapes on the cpu {strange}'
        )


class Operators(TorchDispatchMode):
    """Operators without a tensor of the device, such as `zeros(device=...)`."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})


class Functions(TorchFunctionMode):
    """Functions that read memory in C++ before any operator runs."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.Tensor.new_tensor and isinstance(args[0], SimulatedTensor):
            kwargs = {'dtype': args[0].dtype, 'device': args[0].device} | kwargs
            func, args = torch.tensor, args[1:]
        if func in (torch.tensor, torch.as_tensor) and is_here(kwargs.get('device')):
            del kwargs['device']
            return func(*args, **kwargs).to(NAME)
        if func in (torch.Tensor.__getitem__, torch.Tensor.__setitem__):
            return self.index(func, *args)
        return func(*args, **kwargs)

    def index(self, func: Any, tensor: Any, *rest: Any) -> Any:
        if not isinstance(tensor, SimulatedTensor):
            if any(isinstance(x, SimulatedTensor) for x in tree_leaves(rest)):
                raise RuntimeError('indices should be on the same device as the indexed tensor')
            return func(tensor, *rest)
        if torch.is_grad_enabled() and tensor.requires_grad:
            return func(tensor, *rest)
        with torch._C.DisableTorchFunction():
            result = func(tensor.host, *tree_map(to_host, rest))
        return None if result is None else SimulatedTensor(result)


class Backend(backend_registration._DummyBackendModule):
    """`torch.simgpu`."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]


def cast_and_run(operator: Any, *args: Any, **kwargs: Any) -> Any:
    dtype = torch.get_autocast_dtype(NAME)

    def cast(value: Any) -> Any:
        is_float = isinstance(value, torch.Tensor) and value.is_floating_point()
        return value.to(dtype) if is_float and isinstance(value, SimulatedTensor) else value

    with torch._C._ExcludeDispatchKeyGuard(
        torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)
    ):
        return operator(*tree_map(cast, args), **tree_map(cast, kwargs))


@functools.cache
def register() -> list[Any]:
    """Add the device to PyTorch, once per process. Keep the result: libraries end with it."""
    backend_registration._setup_privateuseone_for_python_backend(NAME, backend_module=Backend())
    everything = torch.library.Library('_', 'IMPL', 'AutocastPrivateUse1')
    everything.fallback(torch.library.fallthrough_kernel)
    half = torch.library.Library('aten', 'IMPL', 'AutocastPrivateUse1')
    for name in HALF:
        packet = getattr(torch.ops.aten, name)
        half.impl(name, functools.partial(cast_and_run, packet.default))
    return [everything, half]


def tensors_of(dtype: torch.dtype) -> Any:
    """A class whose instances are our tensors of a type."""

    class Kind(type):
        def __instancecheck__(cls, value: object) -> bool:
            return isinstance(value, SimulatedTensor) and value.dtype == dtype

    return Kind('Kind', (), {})


@contextlib.contextmanager
def simulated_accelerator() -> Iterator[str]:
    """Inside the block the device exists; yields its name."""
    from mmengine.structures import instance_data

    register()
    # MMEngine lists the tensor types of CPU and CUDA that may be an index.
    names = ('BoolTypeTensor', 'LongTypeTensor', 'IndexType')
    before = {name: getattr(instance_data, name) for name in names}
    flags, rows = tensors_of(torch.bool), tensors_of(torch.int64)
    instance_data.BoolTypeTensor = torch.BoolTensor | flags
    instance_data.LongTypeTensor = torch.LongTensor | rows
    instance_data.IndexType = before['IndexType'] | flags | rows
    try:
        with Operators(), Functions():
            yield NAME
    finally:
        for name, value in before.items():
            setattr(instance_data, name, value)
