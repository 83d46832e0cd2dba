"""Converted models in the user's cache folder, found by the weights and structure of a module."""

from __future__ import annotations

import hashlib
import logging
import os
import sys
import zipfile
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import platformdirs
import torch
from torch import nn

from .io.atomic import atomic_file

logger = logging.getLogger(__name__)


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
    """Converted models of one module.

    Args:
        module: its weights and code are part of the names of the files.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    @cached_property
    def _fingerprint(self) -> str:
        return fingerprint(self.module)

    def path(self, kind: str) -> Path:
        """File of the model for one kind of input, told in words."""
        versions = f'{torch.__version__} {version("openvino")}'
        key = hashlib.sha256(f'{self._fingerprint} {versions} {kind}'.encode()).hexdigest()
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
