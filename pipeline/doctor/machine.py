"""Checks of the driver, the disk, the memory and the model weights."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from pipeline.doctor.facts import Probe
from pipeline.doctor.result import CheckResult, fail, ok, warn

# Oldest driver that runs wheels of a CUDA major version.
OLDEST_DRIVER = {'12': 525, '13': 580}
DISK_WARN_GB = 5.0
MEMORY_WARN_GB = 6.0


def check_cuda_driver(probe: Probe, driver: str | None) -> CheckResult:
    """Compare the CUDA version of torch with the NVIDIA driver.

    Args:
        probe: Reports `cuda` (str or None) and `gpu` (bool) of torch.
        driver: Version of the driver, None without one.
    """
    name = 'cuda-driver'
    cuda = probe.text('cuda')
    if driver is None:
        return ok(name, 'no NVIDIA driver: everything runs on the CPU')
    if probe.error:
        return warn(name, f'driver {driver} is there, but torch cannot be imported', 'make repair')
    if probe.values.get('gpu'):
        return ok(name, f'driver {driver} runs torch with CUDA {cuda}')
    if not cuda:
        cure = 'install torch and torchvision as CUDA builds (docs/install.md, GPU)'
        return warn(name, f'driver {driver} is there, but this torch is a CPU build', cure)
    oldest = OLDEST_DRIVER.get(cuda.split('.')[0], 0)
    if int(driver.split('.')[0]) < oldest:
        cure = f'update the driver to R{oldest} or newer'
        if oldest == OLDEST_DRIVER['13']:
            cure += ', or install torch and torchvision for CUDA 12.9 (docs/install.md, GPU)'
        return fail(name, f'CUDA {cuda} needs driver R{oldest}+, this one is {driver}', cure)
    cure = (
        'run nvidia-smi; after a driver update reboot, in a container pass --gpus all, '
        'and look at CUDA_VISIBLE_DEVICES'
    )
    return warn(name, f'driver {driver} fits CUDA {cuda}, but torch sees no GPU', cure)


def check_disk(folder: Path, free_gb: float | None = None) -> CheckResult:
    """Check the free disk space at a folder, in GB (default: measured)."""
    free = shutil.disk_usage(folder).free / 1e9 if free_gb is None else free_gb
    if free >= DISK_WARN_GB:
        return ok('disk', f'{free:.0f} GB free')
    detail = f'only {free:.1f} GB free; weights and results need about {DISK_WARN_GB:.0f}'
    return warn('disk', detail, 'free disk space (`pip cache purge` frees the cache of pip)')


def check_memory(total_gb: float | None = None) -> CheckResult:
    """Check the main memory, in GB (default: measured)."""
    total = total_gb
    if total is None:
        total = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1e9
    if total >= MEMORY_WARN_GB:
        return ok('memory', f'{total:.0f} GB of main memory')
    detail = f'{total:.1f} GB of main memory; the large models need {MEMORY_WARN_GB:.0f}'
    return warn('memory', detail, 'use a compact model, or add swap space')


def check_checkpoints(folder: Path) -> CheckResult:
    """Compare the model weights with `manifest.json` of their folder.

    Args:
        folder: Holds manifest.json and the embedded files; the others are in the folder that
            BMP_CHECKPOINTS names, or in `downloads/`.
    """
    name = 'checkpoints'
    manifest = folder / 'manifest.json'
    restore = 'restore checkpoints/ from git: git checkout -- checkpoints'
    if not manifest.is_file():
        return warn(name, f'{manifest} is not there', restore)
    try:
        entries = list(_entries(json.loads(manifest.read_text('utf-8'))))
    except (ValueError, AttributeError, TypeError) as error:
        return fail(name, f'{manifest} cannot be read: {error}', restore)
    missing, broken = [], []
    for entry in entries:
        path = _locate(folder, str(entry['file']))
        if path is None:
            missing.append(entry)
        elif problem := _mismatch(path, entry):
            broken.append(f'{path.name} ({problem})')
    lost = [str(entry['file']) for entry in missing if entry.get('embedded')]
    if broken or lost:
        cure = f'{restore}; delete damaged downloads and fetch them again'
        return fail(name, f'damaged: {", ".join(broken)}; lost: {", ".join(lost)}', cure)
    if missing:
        names = ', '.join(str(entry['file']) for entry in missing[:3])
        more = f' and {len(missing) - 3} more' if len(missing) > 3 else ''
        detail = f'{len(missing)} of {len(entries)} are not here: {names}{more}'
        cure = 'fetch those that you use: python tools/download_checkpoints.py --list'
        return warn(name, detail, cure)
    return ok(name, f'all {len(entries)} files are complete')


def _entries(manifest: object) -> Iterator[Mapping[str, object]]:
    """Yield the entries that name a file, at whatever depth of the manifest."""
    if isinstance(manifest, dict):
        if 'file' in manifest:
            yield manifest
        else:
            for value in manifest.values():
                yield from _entries(value)
    elif isinstance(manifest, list):
        for value in manifest:
            yield from _entries(value)


def _locate(folder: Path, file: str) -> Path | None:
    downloads = Path(os.environ.get('BMP_CHECKPOINTS', folder / 'downloads'))
    candidates = (folder / file, downloads / file)
    return next((path for path in candidates if path.is_file()), None)


def _mismatch(path: Path, entry: Mapping[str, object]) -> str:
    size = entry.get('size', entry.get('bytes'))
    actual_size = path.stat().st_size
    if size is not None and actual_size != size:
        return f'{actual_size} bytes instead of {size}'
    record = path.with_name(f'{path.name}.sha256')  # of the first download, if none is published
    expected = str(entry.get('sha256') or entry.get('sha256_prefix') or '').lower()
    if not entry.get('sha256') and record.is_file():
        expected = record.read_text('utf-8', 'replace')[:64]
    if not expected:
        return ''
    digest = hashlib.sha256()
    with path.open('rb') as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return '' if digest.hexdigest().startswith(expected) else 'wrong sha256'
