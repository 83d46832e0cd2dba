#!/usr/bin/env python3
"""Create or update the environment: python tools/setup_env.py --venv .venv --editable.

Needs Python 3.10-3.12 with its venv and development files and a C++ compiler. Installs the
versions pinned in requirements/ and writes a stamp with the hash of the pins; while the stamp
matches, it does nothing. On unsupported Python versions it prints a message.

BMP_KEEP_TORCH=1 keeps the installed torch and torchvision.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / 'requirements'
PIN_FILES = ('torch.txt', 'openmmlab.txt', 'runtime.txt', 'dev.txt', 'constraints.txt')
SUPPORTED = ((3, 10), (3, 11), (3, 12))
# Increase it when the same pins are installed in another way, to update old environments.
SETUP_REVISION = 1
STAMP = 'bmp-stamp.json'
DISK_GB = 12
OPENCV_BUILDS = {'opencv-python', 'opencv-contrib-python', 'opencv-contrib-python-headless'}
VERIFY = (
    'import torch, torchvision, cv2, mmcv.ops, xtcocotools.coco, mmdet.apis, mmpose.apis, '
    'mmpretrain, sam2'
)
# Prints whether torch sees a GPU, and the major CUDA versions of torch and nvcc.
CUDA_VERSIONS = r"""
import re, shutil, subprocess, torch
from torch.utils.cpp_extension import CUDA_HOME as home
nvcc = shutil.which(f'{home}/bin/nvcc')
text = subprocess.run([nvcc, '--version'], capture_output=True, text=True).stdout if nvcc else ''
nvcc = ''.join(re.findall(r'release (\d+)', text))
print(torch.cuda.is_available(), (torch.version.cuda or '').split('.')[0], nvcc, sep=';')
"""


class SetupError(Exception):
    """A problem of the installation, with a hint."""

    def __init__(self, problem: str, hint: str) -> None:
        super().__init__(f'{problem}\n  Hint: {hint}')


def check_machine(venv: Path) -> None:
    """Check the requirements of the installation.

    Raises:
        SetupError: A requirement is missing; the hint has the command to install it.
    """
    version = '{}.{}'.format(*sys.version_info[:2])
    apt = 'Debian, Ubuntu: apt-get install'
    if sys.version_info[:2] not in SUPPORTED:
        hint = f'{apt} python3.11 python3.11-venv python3.11-dev, then: make PYTHON=python3.11 demo'
        raise SetupError(f'Python {version} is not supported; 3.10, 3.11 and 3.12 are.', hint)
    if find_spec('ensurepip') is None:  # a separate package on Debian; `venv` needs it
        raise SetupError(f'Python {version} has no ensurepip.', f'{apt} python{version}-venv')
    if not any(map(shutil.which, (os.environ.get('CXX') or 'c++', 'g++'))):
        problem = 'No C++ compiler found (c++, g++ or $CXX); onedl-mmcv has to be compiled.'
        raise SetupError(problem, f'{apt} build-essential')
    if not Path(sysconfig.get_paths()['include'], 'Python.h').is_file():
        raise SetupError(f'Python.h of Python {version} is absent.', f'{apt} python{version}-dev')
    free = shutil.disk_usage(next(f for f in (venv, *venv.parents) if f.exists())).free / 1e9
    if free < DISK_GB:
        hint = 'Free some, or put the environment elsewhere: make env BMP_VENV=/big/disk/venv'
        raise SetupError(f'Only {free:.0f} GB of disk are free; {DISK_GB} are needed.', hint)


def pins_key(requirements: Path = REQUIREMENTS) -> str:
    """Hash the pins (12 hex digits) without comments and blank lines."""
    digest = hashlib.sha256(f'revision {SETUP_REVISION}'.encode())
    for name in PIN_FILES:
        text = (requirements / name).read_text('utf-8')
        lines = (line.partition('#')[0].strip() for line in text.splitlines())
        digest.update('\n'.join([name, *sorted(filter(None, lines))]).encode())
    return digest.hexdigest()[:12]


def read_stamp(venv: Path) -> dict[str, str]:
    """Return `pins` and `checkout` of a finished installation; empty without one."""
    try:
        stamp = json.loads((venv / STAMP).read_text('utf-8'))
    except (OSError, ValueError):
        return {}
    working = os.access(venv / 'bin' / 'python', os.X_OK)
    return stamp if working and isinstance(stamp, dict) else {}


def is_current(venv: Path, wanted: Mapping[str, str]) -> bool:
    """Return whether the environment is up to date; `checkout` '' matches any checkout."""
    stamp = read_stamp(venv)
    linked = wanted['checkout'] in ('', stamp.get('checkout'))
    return stamp.get('pins') == wanted['pins'] and linked


@contextmanager
def locked(venv: Path) -> Iterator[None]:
    """Lock the environment; other processes wait."""
    import fcntl  # absent on Windows

    venv.mkdir(parents=True, exist_ok=True)
    with (venv / 'bmp-setup.lock').open('w') as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f'Waiting for another set-up of {venv} ...', flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class Installer:
    """Runs the steps of the installation in an environment."""

    def __init__(self, venv: Path) -> None:
        self.venv = venv
        self.python = str(venv / 'bin' / 'python')
        self.torch_pins = REQUIREMENTS / 'torch.txt'

    def pip(self, *arguments: str) -> list[str]:
        """Return a pip command line for this environment."""
        return [self.python, '-m', 'pip', '--disable-pip-version-check', '--no-input', *arguments]

    def install(self, *arguments: str) -> list[str]:
        """Return a `pip install` command line with all pins as constraints."""
        files = [self.torch_pins, *(REQUIREMENTS / name for name in PIN_FILES[1:])]
        pins = [part for path in files for part in ('-c', str(path))]
        return self.pip('install', '--progress-bar', 'off', *arguments, *pins)

    def run(self, title: str, command: list[str], **env: str) -> None:
        """Run one step; the command prints its own progress.

        Raises:
            SetupError: The step failed.
        """
        print(title, flush=True)
        # With PYTHONPATH, pip sees the checkout as installed; the others change the target folder.
        dropped = ('PYTHONPATH', 'PIP_USER', 'PIP_TARGET')
        variables = {k: v for k, v in os.environ.items() if k not in dropped} | env
        # In a new session, the compilers that pip starts can be stopped with it.
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, env=variables, start_new_session=True
        )
        try:
            failed = process.wait()
        except BaseException:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            process.wait()
            raise
        if failed:
            hint = 'Read the lines above and the table in docs/installation.md. Then run it again.'
            raise SetupError(f'The step failed: {title.strip()}', hint)

    def output(self, code: str) -> str:
        """Return what Python code prints in the environment; '' if it fails."""
        try:
            result = subprocess.run([self.python, '-c', code], capture_output=True, text=True)
        except OSError:  # no interpreter there, or a broken link
            return ''
        return result.stdout.strip() if result.returncode == 0 else ''


def ensure_venv(installer: Installer) -> None:
    """Create the environment, or check that an existing one can be used.

    Raises:
        SetupError: The folder has other content or an unsupported Python.
    """
    venv = installer.venv
    foreign = any(not path.name.startswith('bmp-') for path in venv.iterdir())
    version = installer.output('import pip, sys; print(*sys.version_info[:2], sep=".")')
    if version and version not in ('3.10', '3.11', '3.12'):
        raise SetupError(
            f'{venv} has Python {version}; 3.10-3.12 work.', f'Delete it: rm -r {venv}'
        )
    if version:
        print(f'[1/7] Use the environment {venv}', flush=True)
        return
    if foreign:
        problem = f'{venv} exists and is not a Python environment with pip.'
        raise SetupError(problem, f'Delete it (rm -r {venv}), or name another: BMP_VENV=/path')
    installer.run(
        '[1/7] Create the environment (seconds)', [sys.executable, '-m', 'venv', str(venv)]
    )


def keep_torch(installer: Installer) -> None:
    """Pin torch and torchvision to the installed versions."""
    code = 'from importlib.metadata import version as v; print(v("torch"), v("torchvision"))'
    versions = installer.output(code).split()
    if not versions:
        hint = f'Install both with {installer.python} -m pip, or unset BMP_KEEP_TORCH.'
        raise SetupError('BMP_KEEP_TORCH is set, but torch or torchvision is not installed.', hint)
    text = installer.torch_pins.read_text('utf-8')
    for name, version in zip(('torch', 'torchvision'), versions, strict=True):
        text = re.sub(rf'(?m)^{name}==.*$', f'{name}=={version}', text)
    installer.torch_pins = installer.venv / 'bmp-torch.txt'
    installer.torch_pins.write_text(text, 'utf-8')


def build_variables(installer: Installer) -> dict[str, str]:
    """Return the variables of the compilation.

    mmcv's setup.py fails if there is a GPU but no nvcc of torch's CUDA version; then the GPU is
    hidden.
    """
    memory_gb = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1e9
    jobs = max(1, min(os.cpu_count() or 1, int(memory_gb / 1.5)))  # the compiler needs 1.5 GB
    # SAM 2's only extension fills holes of masks on the GPU; this project uses OpenCV.
    variables = {'SAM2_BUILD_CUDA': '0', 'MAX_JOBS': os.environ.get('MAX_JOBS', str(jobs))}
    gpu, torch_cuda, nvcc = (installer.output(CUDA_VERSIONS) or ';;').split(';')
    if gpu == 'True' and torch_cuda == nvcc:
        variables['FORCE_CUDA'] = '1'
    elif gpu == 'True':
        versions = f'torch uses CUDA {torch_cuda or "none"}, nvcc is {nvcc or "absent"}'
        print(f'      CPU operators only: {versions} (docs/installation.md, GPU)', flush=True)
        variables |= {'CUDA_VISIBLE_DEVICES': '', 'FORCE_CUDA': '0'}
    return variables


def install_pins(installer: Installer) -> None:
    """Install all pins, in the only order that works."""
    if os.environ.get('BMP_KEEP_TORCH') == '1':
        keep_torch(installer)
    installer.run(
        '[2/7] Install PyTorch and build tools (about 3 GB to download, 2 to 10 minutes)',
        installer.install('-r', str(installer.torch_pins)),
    )
    env = build_variables(installer)
    # xtcocotools' wheels are built for NumPy 1; mmcv must be compiled against the torch of step 2.
    flags = ('--no-build-isolation', '--no-binary', 'xtcocotools')
    openmmlab = REQUIREMENTS / 'openmmlab.txt'
    installer.run(
        '[3/7] Compile onedl-mmcv, install the OpenMMLab packages and SAM 2\n'
        '      (about 10 minutes on 2 cores, once: pip caches the wheel)',
        installer.install(*flags, '-r', str(openmmlab)),
        **env,
    )
    rest = [
        part for name in ('runtime.txt', 'dev.txt') for part in ('-r', f'{REQUIREMENTS}/{name}')
    ]
    installer.run('[4/7] Install the remaining packages (a minute)', installer.install(*rest))
    keep_one_opencv(installer)
    if not installer.output('import mmcv.ops; print("ok")'):
        # pip caches the compiled wheel by version; it may belong to another torch.
        pin = re.findall(r'(?m)^onedl-mmcv==\S+', openmmlab.read_text('utf-8'))[0]
        again = ('--no-cache-dir', '--force-reinstall', '--no-deps', '--no-build-isolation')
        title = '      the cached onedl-mmcv does not fit this torch: compile again (10 minutes)'
        installer.run(title, installer.install(*again, pin), **env)
    installer.run('[6/7] Import the libraries (seconds)', [installer.python, '-c', VERIFY])


def keep_one_opencv(installer: Installer) -> None:
    """Leave exactly one OpenCV build, the headless one.

    onedl-mmcv, mmpose and imaug require opencv-python, which uses the same folder `cv2` and needs
    libGL. `pip check` therefore reports opencv-python as missing.
    """
    code = (
        'from importlib.metadata import distributions\n'
        'print(*{d.metadata["Name"].lower().replace("_", "-") for d in distributions()})'
    )
    found = sorted(set(installer.output(code).split()) & OPENCV_BUILDS)
    headless = 'opencv-python-headless'
    if found:
        title = '[5/7] Keep one OpenCV build, the headless one (seconds)'
        installer.run(title, installer.pip('uninstall', '-y', headless, *found))
        installer.run('      install it again', installer.install('--no-deps', headless))


def set_up(venv: Path, *, editable: bool) -> None:
    """Install the pinned versions; returns at once if they are installed.

    Raises:
        SetupError: A requirement is missing or a step failed.
    """
    # A changed setup.cfg may name other commands: link the checkout again.
    link = hashlib.sha256((ROOT / 'setup.cfg').read_bytes()).hexdigest()[:8]
    wanted = {'pins': pins_key(), 'checkout': f'{ROOT} {link}' if editable else ''}
    if is_current(venv, wanted):
        return
    if read_stamp(venv).get('pins') != wanted['pins']:
        check_machine(venv)
    begin = time.monotonic()
    with locked(venv):
        if is_current(venv, wanted):  # another process installed it
            return
        installer = Installer(venv)
        if read_stamp(venv).get('pins') != wanted['pins']:
            (venv / STAMP).unlink(missing_ok=True)
            ensure_venv(installer)
            install_pins(installer)
        if editable:
            flags = ('--no-deps', '--no-build-isolation', '-e', str(ROOT))
            installer.run('[7/7] Link this checkout (seconds)', installer.pip('install', *flags))
        (venv / STAMP).write_text(json.dumps(wanted), 'utf-8')
    minutes, seconds = divmod(int(time.monotonic() - begin), 60)
    print(f'The environment {venv} is ready after {minutes}:{seconds:02d} minutes.', flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        description='Create or update the environment.', allow_abbrev=False
    )
    parser.add_argument('--venv', type=Path, default=ROOT / '.venv', help='folder (%(default)s)')
    parser.add_argument('--editable', action='store_true', help='link this checkout into it')
    parser.add_argument('--key', action='store_true', help='print Python version and hash of pins')
    options = parser.parse_args(arguments)
    if options.key:
        print('py{}.{}-{}'.format(*sys.version_info[:2], pins_key()))
        return 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # also stops child processes
    try:
        set_up(options.venv.expanduser().absolute(), editable=options.editable)
    except SetupError as error:
        print(f'Error: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('Stopped. Run the same command again to continue.', file=sys.stderr)
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())
