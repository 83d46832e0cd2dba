"""Checks of the installed packages; every one takes its facts as arguments."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

from pipeline.doctor.facts import PROJECT_ROOT, Probe, Runner
from pipeline.doctor.result import CheckResult, fail, ok, warn

# The interpreter is named in full, so that a cure can be pasted as it stands.
PIP = f'{shlex.quote(sys.executable)} -m pip'
REPAIR = 'make repair'
if Path(sys.prefix) != PROJECT_ROOT / '.venv' and sys.prefix != sys.base_prefix:
    REPAIR += f' BMP_VENV={shlex.quote(sys.prefix)}'
# Differing versions that are listed; a wrong environment differs in all.
SHOWN_PINS = 8
SUPPORTED = ((3, 10), (3, 11), (3, 12))
OPENCV_BUILDS = (
    'opencv-python',
    'opencv-python-headless',
    'opencv-contrib-python',
    'opencv-contrib-python-headless',
)
# Packages that install the same import name; the first of each row is the one this project uses.
TWINS = (
    ('onedl-mmcv', 'mmcv', 'mmcv-full', 'mmcv-lite', 'onedl-mmcv-lite'),
    ('onedl-mmengine', 'mmengine', 'mmengine-lite', 'onedl-mmengine-lite'),
    ('onedl-mmdetection', 'mmdet'),
    ('onedl-mmpretrain', 'mmpretrain'),
)
# Without pip's cache, which may hold a wheel that was compiled against another torch or NumPy.
REBUILD = f'{PIP} install --no-cache-dir --force-reinstall --no-deps --no-build-isolation'
REPLACE = f'{PIP} install --force-reinstall --no-deps'

TORCH_CODE = (
    'import torch\n'
    'report(version=torch.__version__, cuda=torch.version.cuda, gpu=torch.cuda.is_available())'
)
VISION_CODE = (
    'import torch, torchvision\n'
    'torchvision.ops.nms(torch.tensor([[0., 0., 1., 1.]]), torch.tensor([1.]), 0.5)\n'
    'report(version=torchvision.__version__)'
)
MMCV_CODE = (
    'import mmcv\nreport(version=mmcv.__version__)\nimport mmcv._ext\n'
    'from mmcv.ops import get_compiling_cuda_version\nreport(cuda=get_compiling_cuda_version())'
)
CV2_CODE = 'import cv2\nreport(version=cv2.__version__)'
XTCOCO_CODE = 'import numpy\nreport(numpy=numpy.__version__)\nimport xtcocotools.mask'
SAM2_CODE = (
    'import sam2\nfrom sam2.build_sam import build_sam2\nfrom hydra import compose\n'
    'compose(config_name="configs/sam2.1/sam2.1_hiera_t.yaml")'
)


def import_code(module: str) -> str:
    """Return the probe that imports a module."""
    return f'import {module}'


def pinned(name: str, pins: Mapping[str, str]) -> str:
    """Return what to install: 'name==version', or 'name' when it is not pinned."""
    return f'{name}=={pins[name]}' if name in pins else name


def import_failure(name: str, module: str, probe: Probe, cure: str) -> CheckResult:
    """Return the failure of an import; what is missing is installed together with the rest."""
    missing = "No module named '" in probe.error
    return fail(name, f'import {module}: {probe.error}', REPAIR if missing else cure)


def check_python(version: tuple[int, int]) -> CheckResult:
    """Check the interpreter: the model libraries build on Python 3.10-3.12 only."""
    text = '.'.join(map(str, version))
    if version in SUPPORTED:
        return ok('python', f'Python {text}')
    cure = 'install Python 3.11, then: make clean-env env PYTHON=python3.11'
    return fail('python', f'Python {text} is not supported; 3.10, 3.11 and 3.12 are', cure)


def check_torch(probe: Probe) -> CheckResult:
    """Check that torch can be imported."""
    if not probe.error:
        cuda = probe.text('cuda')
        build = f'CUDA {cuda}' if cuda else 'CPU only'
        return ok('torch', f'torch {probe.text("version")} ({build})')
    return fail('torch', f'import torch: {probe.error}', REPAIR)


def check_torchvision(probe: Probe, pins: Mapping[str, str]) -> CheckResult:
    """Check torchvision's operators; they are missing when its build differs from torch's."""
    if not probe.error:
        return ok('torchvision', f'torchvision {probe.text("version")}, its operators work')
    cure = f'{REPLACE} {pinned("torch", pins)} {pinned("torchvision", pins)}'
    if 'torchvision::nms' in probe.output + probe.error:
        detail = 'operator torchvision::nms does not exist: torch and torchvision are other builds'
        return fail('torchvision', detail, f'{cure} (both from the same package index)')
    return import_failure('torchvision', 'torchvision', probe, cure)


def check_mmcv_ops(probe: Probe, gpu: bool, pins: Mapping[str, str]) -> CheckResult:
    """Check mmcv's compiled operators.

    pip installs mmcv without them when no torch is visible during the build, and takes them from
    its cache when they were compiled against another torch.
    """
    text = probe.output + probe.error
    rebuild = f'{REBUILD} {pinned("onedl-mmcv", pins)}'
    if not probe.error:
        cuda = probe.text('cuda')
        if gpu and 'not available' in cuda:
            detail = 'mmcv operators are compiled for the CPU only, but torch sees a GPU'
            cure = f"FORCE_CUDA=1 {rebuild} (needs an nvcc of torch's CUDA version)"
            return warn('mmcv-ops', detail, cure)
        return ok('mmcv-ops', f'mmcv {probe.text("version")}, operators compiled (CUDA: {cuda})')
    if "No module named 'mmcv._ext'" in text:
        return fail('mmcv-ops', 'mmcv was installed without its compiled operators', rebuild)
    if 'undefined symbol' in text:
        return fail('mmcv-ops', 'mmcv was compiled against another version of torch', rebuild)
    return import_failure('mmcv-ops', 'mmcv._ext', probe, rebuild)


def check_opencv_builds(installed: Mapping[str, str], pins: Mapping[str, str]) -> CheckResult:
    """Check that one OpenCV build is installed; all of them write into the same folder."""
    found = [name for name in OPENCV_BUILDS if name in installed]
    listed = ', '.join(f'{name} {installed[name]}' for name in found)
    if len(found) == 1:
        return ok('opencv-builds', listed)
    install = f'{REPLACE} {pinned("opencv-python-headless", pins)}'
    if not found:
        return fail('opencv-builds', 'OpenCV is not installed', install)
    cure = f'{PIP} uninstall -y {" ".join(found)} && {install}'
    detail = f'{len(found)} builds share the folder cv2: {listed}'
    if len({installed[name] for name in found}) > 1:
        return fail('opencv-builds', detail + ' (mixed versions)', cure)
    return warn('opencv-builds', detail, cure)


def check_opencv_import(
    probe: Probe, installed: Mapping[str, str], pins: Mapping[str, str]
) -> CheckResult:
    """Check that OpenCV loads; the desktop builds need libGL, which servers lack."""
    if not probe.error:
        return ok('opencv-import', f'cv2 {probe.text("version")}')
    found = ' '.join(name for name in OPENCV_BUILDS if name in installed)
    cure = f'{REPLACE} {pinned("opencv-python-headless", pins)}'
    if found:
        cure = f'{PIP} uninstall -y {found} && {cure}'
    if 'libGL' in probe.error or 'libgthread' in probe.error:
        cure += ' (or: apt-get install libgl1 libglib2.0-0)'
    return import_failure('opencv-import', 'cv2', probe, cure)


def check_numpy_abi(probe: Probe, pins: Mapping[str, str]) -> CheckResult:
    """Check that xtcocotools, whose wheels are built for NumPy 1, fits the installed NumPy."""
    if not probe.error:
        return ok('numpy-abi', f'xtcocotools fits NumPy {probe.text("numpy")}')
    cure = f'{REBUILD} --no-binary xtcocotools {pinned("xtcocotools", pins)}'
    text = probe.output + probe.error
    if 'dtype size changed' in text or 'compiled using NumPy 1' in text:
        detail = f'xtcocotools was built for another NumPy than {probe.text("numpy")}'
        return fail('numpy-abi', detail, cure)
    return import_failure('numpy-abi', 'xtcocotools', probe, cure)


def check_twins(installed: Mapping[str, str], pins: Mapping[str, str]) -> CheckResult:
    """Check that no two packages own the same import name."""
    clashes = [
        [name for name in row if name in installed]
        for row in TWINS
        if sum(name in installed for name in row) > 1
    ]
    if not clashes:
        return ok('mm-twins', 'no two packages own the same import name')
    removed = ' '.join(name for row in clashes for name in row)
    kept = ' '.join(pinned(row[0], pins) for row in TWINS if set(row) & set(removed.split()))
    flags = '--no-deps --no-build-isolation'
    cure = f'{PIP} uninstall -y {removed} && {PIP} install {flags} {kept}'
    detail = 'installed together: ' + '; '.join(' and '.join(row) for row in clashes)
    return fail('mm-twins', detail, cure)


def check_import(module: str, package: str, probe: Probe, pins: Mapping[str, str]) -> CheckResult:
    """Check that a pure-Python library can be imported: 'mmdet.apis' of onedl-mmdetection."""
    name = module.partition('.')[0]
    if not probe.error:
        return ok(name, f'{module} can be imported')
    cure = f'{REPLACE} --no-build-isolation {pinned(package, pins)}'
    return import_failure(name, module, probe, cure)


def check_mmpose(
    probe: Probe, installed: Mapping[str, str], pins: Mapping[str, str]
) -> CheckResult:
    """Check MMPose; chumpy, which its metadata asks for and it never imports, may be missing."""
    if not probe.error:
        chumpy = 'installed' if 'chumpy' in installed else 'missing, which is fine'
        return ok('mmpose', f'mmpose.apis can be imported (chumpy, never used: {chumpy})')
    # --no-deps: the build of chumpy fails on current Python without --no-build-isolation.
    return import_failure('mmpose', 'mmpose.apis', probe, f'{REPLACE} {pinned("mmpose", pins)}')


def check_sam2(probe: Probe, pins: Mapping[str, str]) -> CheckResult:
    """Check that SAM 2 loads and finds its model configurations through Hydra."""
    if not probe.error:
        return ok('sam2', 'sam2 can be imported and finds its configurations')
    text = probe.output + probe.error
    if 'parent directory of the sam2 repository' in text:
        detail = 'a folder named sam2 in the current folder hides the package'
        return fail('sam2', detail, 'run from another folder, or rename the clone of sam2')
    cure = f'{REPLACE} --no-build-isolation {pinned("sam2", pins)}'
    return import_failure('sam2', 'sam2', probe, cure)


def check_hydra_state(modules: Mapping[str, ModuleType]) -> CheckResult:
    """Check the Hydra state of this process; sam2 sets it up only if nobody has before.

    Args:
        modules: `sys.modules` of the process that will load SAM 2.
    """
    state = modules.get('hydra.core.global_hydra')
    if state is None or 'sam2' in modules or not state.GlobalHydra.instance().is_initialized():
        return ok('hydra-state', 'Hydra is free for sam2 in this process')
    cure = 'hydra.core.global_hydra.GlobalHydra.instance().clear() before the pipeline is built'
    detail = 'Hydra was initialised before sam2 was imported; build_sam2 will not find its configs'
    return warn('hydra-state', detail, cure)


def check_setuptools(installed: Mapping[str, str], pins: Mapping[str, str]) -> CheckResult:
    """Check setuptools: version 82 dropped pkg_resources, which building mmcv needs."""
    version = installed.get('setuptools', '')
    cure = f'{PIP} install {pinned("setuptools", pins)}'
    if not version:
        return warn('setuptools', 'setuptools is missing; mmcv cannot be rebuilt', cure)
    if int(version.split('.')[0]) >= 82:
        return warn('setuptools', f'setuptools {version} has no pkg_resources', cure)
    return ok('setuptools', f'setuptools {version}')


def check_pins(installed: Mapping[str, str], pins: Mapping[str, str]) -> CheckResult:
    """Compare installed versions with the pinned ones; a local label ('+cu129') is free."""
    if not pins:
        cure = 'run it in a clone of the repository to compare versions'
        return warn('pins', 'requirements/ not found: installed without the source tree', cure)
    wrong = [
        f'{name} {installed.get(name, "missing")} instead of {pin}'
        for name, pin in sorted(pins.items())
        if installed.get(name, '').partition('+')[0] != pin
    ]
    if not wrong:
        return ok('pins', f'all {len(pins)} pinned packages have the verified version')
    if len(wrong) > SHOWN_PINS:
        wrong[SHOWN_PINS:] = [f'and {len(wrong) - SHOWN_PINS} more']
    return warn('pins', f'not the verified versions: {"; ".join(wrong)}', REPAIR)


def current_python() -> tuple[int, int]:
    """Return major and minor version of the running interpreter."""
    return sys.version_info[:2]


def probe_all(run: Runner, code: Mapping[str, str]) -> dict[str, Probe]:
    """Run named probes, two at a time: each is a process that loads a large library."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        futures = {name: pool.submit(run, snippet) for name, snippet in code.items()}
        return {name: future.result() for name, future in futures.items()}
