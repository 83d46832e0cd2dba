"""Check the installation and print a hint for each problem: ``bmp doctor`` or ``make doctor``.

This module imports the standard library only (and `packaging`, if it is there), so it also runs
when torch, mmcv or NumPy are broken or absent. It imports each library in a child process, because
a broken binary can end the interpreter.
"""

from __future__ import annotations

import argparse
import configparser
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from importlib.machinery import PathFinder
from pathlib import Path
from typing import NamedTuple

from .resources import DOWNLOAD, INSTALLED, RESTORE, ROOT, locate_file
from .weights.checkpoints import verify_file
from .weights.manifest import ManifestError, locate_weights, read_manifest

TIMEOUT_S = 300.0
PIP = f'{shlex.quote(sys.executable)} -m pip'
REPLACE = f'{PIP} install --force-reinstall --no-deps --no-build-isolation'
# Without pip's cache, which may hold a wheel that was compiled against another torch or NumPy.
REBUILD = f'{REPLACE} --no-cache-dir --no-binary xtcocotools'
REPAIR = f'{PIP} install --force-reinstall bbox-mask-pose' if INSTALLED else 'make repair'
if not INSTALLED and sys.prefix not in (str(ROOT / '.venv'), sys.base_prefix):
    REPAIR += f' BMP_VENV={shlex.quote(sys.prefix)}'
# Packages with the same import name; the project uses the first of each row.
TWINS = (
    ('onedl-mmcv', 'mmcv', 'mmcv-full', 'mmcv-lite', 'onedl-mmcv-lite'),
    ('onedl-mmengine', 'mmengine', 'mmengine-lite', 'onedl-mmengine-lite'),
    ('onedl-mmdetection', 'mmdet'),
    ('onedl-mmpretrain', 'mmpretrain'),
    ('opencv-python-headless', 'opencv-python', 'opencv-contrib-python',
     'opencv-contrib-python-headless'),
)  # fmt: skip


class CheckResult(NamedTuple):
    """Result of one check."""

    name: str
    status: str  # OK, WARN (the pipeline works, with limits) or FAIL
    detail: str
    hint: str = ''  # command or step that fixes it


class Probe(NamedTuple):
    """Result of Python code in a child process: its error, reported values, error output."""

    error: str = ''
    values: Mapping[str, object] = {}
    output: str = ''


class Library(NamedTuple):
    """A library to import: code that reports values, and packages and command to reinstall it."""

    name: str
    code: str
    packages: str = ''
    command: str = REPLACE


# fmt: off
LIBRARIES = (
    Library('torch', 'import torch as t; report(version=t.__version__, cuda=t.version.cuda, '
            'gpu=t.cuda.is_available())', command=REPAIR),
    Library('torchvision', 'import torch as t, torchvision as v; report(version=v.__version__)\n'
            'v.ops.nms(t.tensor([[0., 0., 1., 1.]]), t.tensor([1.]), 0.5)', 'torch torchvision'),
    Library('mmcv', 'import mmcv; report(version=mmcv.__version__); import mmcv._ext\n'
            'from mmcv.ops import get_compiling_cuda_version as cuda\n'
            'report(operators="for " + cuda().replace("not available", "the CPU"))',
            'onedl-mmcv', REBUILD),
    Library('opencv', 'import cv2; report(version=cv2.__version__)', 'opencv-python-headless'),
    Library('xtcocotools', 'import numpy; report(numpy=numpy.__version__)\n'
            'import xtcocotools.mask', 'xtcocotools', REBUILD),
    Library('mmdet', 'import mmdet.apis', 'onedl-mmdetection'),
    Library('mmpretrain', 'import mmpretrain', 'onedl-mmpretrain'),
    Library('mmpose', 'import mmpose.apis', 'mmpose'),
    Library('sam2', 'from sam2.build_sam import build_sam2; from hydra import compose\n'
            'compose(config_name="configs/sam2.1/sam2.1_hiera_t.yaml")', 'sam2'),
)
# fmt: on
# Text in the error output of a library -> cause.
TRAPS = {
    'torchvision::nms': 'torch and torchvision are different builds: no operator nms',
    "No module named 'mmcv._ext'": 'mmcv was installed without its compiled operators',
    'undefined symbol': 'mmcv was compiled against another version of torch',
    'libGL': 'a desktop build of OpenCV needs libGL, which is absent',
    'dtype size changed': 'xtcocotools was built for another NumPy',
    'compiled using NumPy 1': 'xtcocotools was built for another NumPy',
    'parent directory of the sam2': 'a folder named sam2 hides the package; run elsewhere',
}


def run_probe(code: str) -> Probe:
    """Run Python code in a child process with this interpreter; a crash is an error."""
    report = 'import json\ndef report(**values): print("probe:" + json.dumps(values), flush=True)\n'
    command = [sys.executable, '-c', report + code]
    try:
        child = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return Probe(f'no answer within {TIMEOUT_S:.0f} s')
    values: dict[str, object] = {}
    for line in child.stdout.splitlines():
        if line.startswith('probe:'):
            values.update(json.loads(line[len('probe:') :]))
    lines = [line.strip() for line in child.stderr.splitlines() if line.strip()]
    error = ''
    if child.returncode < 0:
        error = f'the interpreter crashed with signal {-child.returncode}'
    elif child.returncode > 0:
        error = lines[-1] if lines else f'exit code {child.returncode}'
    return Probe(error, values, child.stderr)


def normalise(name: str) -> str:
    """Normalise a package name like pip."""
    return re.sub(r'[-_.]+', '-', name).lower()


def read_ranges() -> dict[str, str]:
    """Read the versions that the package needs by name, e.g. ``{'sam2': '<1.2,>=1.1'}``.

    Empty if `packaging` is absent.
    """
    if INSTALLED:
        lines = metadata.requires('bbox-mask-pose') or []
    else:
        parser = configparser.ConfigParser()
        parser.read(ROOT / 'setup.cfg', 'utf-8')
        lines = parser['options']['install_requires'].split('\n')
    try:
        from packaging.requirements import Requirement
    except ImportError:
        return {}
    needed = [Requirement(line) for line in lines if line and 'extra ==' not in line]
    return {normalise(requirement.name): str(requirement.specifier) for requirement in needed}


def with_ranges(names: str, ranges: Mapping[str, str]) -> str:
    """Return the arguments of `pip install` for packages."""
    return shlex.join(name + ranges.get(name, '') for name in names.split())


def check_python(version: tuple[int, int]) -> CheckResult:
    """Check the interpreter: the model libraries build on Python 3.10-3.12 only."""
    text = f'Python {version[0]}.{version[1]}'
    if (3, 10) <= version <= (3, 12):
        return CheckResult('python', 'OK', text)
    hint = 'install Python 3.11, then: make clean-env env PYTHON=python3.11'
    return CheckResult('python', 'FAIL', f'{text} is not supported; 3.10, 3.11 and 3.12 are', hint)


def check_library(library: Library, probe: Probe, ranges: Mapping[str, str]) -> CheckResult:
    """Check that a library can be imported and used."""
    if not probe.error:
        values = ', '.join(f'{name} {value}' for name, value in probe.values.items())
        return CheckResult(library.name, 'OK', values or 'works')
    hint = f'{library.command} {with_ranges(library.packages, ranges)}'.strip()
    for text, meaning in TRAPS.items():
        if text in probe.output + probe.error:
            return CheckResult(library.name, 'FAIL', meaning, hint)
    missing = "No module named '" in probe.error
    return CheckResult(library.name, 'FAIL', probe.error, REPAIR if missing else hint)


def check_gpu(torch: Probe, mmcv: Probe, driver: str | None) -> CheckResult:
    """Check that torch and mmcv can use the GPU of an NVIDIA driver (None: no driver)."""
    if driver is None:
        return CheckResult('gpu', 'OK', 'no NVIDIA driver: everything runs on the CPU')
    build = f'driver {driver}, CUDA of torch: {torch.values.get("cuda")}'
    if not torch.values.get('gpu'):
        hint = (
            'run nvidia-smi; in a container pass --gpus all; torch for CUDA 13 needs driver R580 '
            'or newer, for CUDA 12 R525 or newer (docs/installation.md, GPU)'
        )
        return CheckResult('gpu', 'WARN', f'torch sees no GPU; {build}', hint)
    if 'CPU' in str(mmcv.values.get('operators')):
        hint = f"FORCE_CUDA=1 {REBUILD} onedl-mmcv (needs an nvcc of torch's CUDA version)"
        return CheckResult('gpu', 'WARN', 'mmcv operators are compiled for the CPU only', hint)
    return CheckResult('gpu', 'OK', build)


def check_twins(installed: Mapping[str, str], ranges: Mapping[str, str]) -> list[CheckResult]:
    """Check for packages that overwrite each other's files."""
    results = []
    for row in TWINS:
        found = [name for name in row if name in installed]
        if len(found) > 1:
            hint = (
                f'{PIP} uninstall -y {" ".join(found)} && {REPLACE} {with_ranges(row[0], ranges)}'
            )
            detail = f'installed together: {" and ".join(found)}'
            mixed = len({installed[name] for name in found}) > 1
            results.append(CheckResult('twins', 'FAIL' if mixed else 'WARN', detail, hint))
    return results


def check_versions(installed: Mapping[str, str], ranges: Mapping[str, str]) -> CheckResult:
    """Compare installed versions with ranges."""
    if not ranges:
        return CheckResult('versions', 'WARN', 'unchecked: no package `packaging`', REPAIR)
    from packaging.specifiers import SpecifierSet

    wrong = [
        f'{name} {installed.get(name, "missing")}, needs {allowed}'
        for name, allowed in ranges.items()
        if not SpecifierSet(allowed).contains(installed.get(name, '0'), prereleases=True)
    ]
    if wrong:
        return CheckResult('versions', 'WARN', '; '.join(wrong), REPAIR)
    return CheckResult('versions', 'OK', f'all {len(ranges)} packages fit')


def check_configs(folder: Path) -> CheckResult:
    """Check the configs, and that no file of the working directory hides this package."""
    spec = PathFinder.find_spec('pipeline', [str(folder)])
    if (
        spec
        and spec.origin
        and Path(spec.origin).resolve().parent != Path(__file__).resolve().parent
    ):
        hint = 'rename it, or run your scripts in another folder'
        return CheckResult('configs', 'WARN', f'{spec.origin} hides the package `pipeline`', hint)
    try:
        return CheckResult('configs', 'OK', locate_file('configs/bmp_compact.py'))
    except FileNotFoundError as error:
        return CheckResult('configs', 'FAIL', str(error), RESTORE)


def check_weights() -> CheckResult:
    """Compare the weights on the disk with the manifest."""
    absent, wrong, complete = [], [], 0
    try:
        for entry in read_manifest().values():
            path = locate_weights(entry)
            problem = verify_file(entry, path)[0] if path.is_file() else 'absent'
            if problem == 'absent' and not entry.embedded:
                absent.append(entry.file)
            elif problem:
                wrong.append(f'{entry.file} ({problem})')
            else:
                complete += 1
    except ManifestError as error:
        return CheckResult('weights', 'FAIL', str(error), RESTORE)
    if wrong:
        hint = f'{RESTORE}; download the others again: {shlex.join(DOWNLOAD)} NAME --force'
        return CheckResult('weights', 'FAIL', f'damaged: {", ".join(wrong)}', hint)
    detail = f'{complete} files are complete; {len(absent)} optional ones are not downloaded'
    return CheckResult('weights', 'OK', detail)


def nvidia_driver() -> str | None:
    """Return the version of the NVIDIA driver, e.g. '580.65.06'; None without one."""
    command = ['nvidia-smi', '--query-gpu=driver_version', '--format=csv,noheader']
    if shutil.which(command[0]) is None:
        return None
    text = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    match = re.match(r'\d+\.[\d.]+', text)
    return match.group() if match else None


def diagnose(run: Callable[[str], Probe] = run_probe) -> list[CheckResult]:
    """Run all checks, in up to a minute; ``run`` executes the code of a `Library`."""
    names = [(d.metadata['Name'], d.version) for d in metadata.distributions()]
    installed = {normalise(name): version for name, version in names if name}
    ranges = read_ranges()
    with ThreadPoolExecutor(max_workers=2) as pool:  # each loads a large library
        probes = list(pool.map(run, [library.code for library in LIBRARIES]))
    return [
        check_python(sys.version_info[:2]),
        *(check_library(*pair, ranges) for pair in zip(LIBRARIES, probes, strict=True)),
        check_gpu(probes[0], probes[2], nvidia_driver()),
        *check_twins(installed, ranges),
        check_versions(installed, ranges),
        check_configs(Path.cwd()),
        check_weights(),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns 1 if a check failed, else 0 (warnings do not count)."""
    parser = argparse.ArgumentParser(
        'bmp doctor', description='Check the installation and print hints.', allow_abbrev=False
    )
    parser.add_argument('--json', action='store_true', help='print a JSON list instead of text')
    options = parser.parse_args(arguments)
    results = diagnose()
    lines = []
    for result in results:
        lines.append(f'{result.status:<4}  {result.name:<11}  {result.detail}')
        if result.hint:
            lines.append(f'{"":<17}  hint: {result.hint}')
    if options.json:
        lines = [json.dumps([result._asdict() for result in results], indent=2)]
    sys.stdout.write('\n'.join(lines) + '\n')
    return int(any(result.status == 'FAIL' for result in results))


if __name__ == '__main__':
    sys.exit(main())
