#!/usr/bin/env python3
"""Create or update the environment: python tools/setup_env.py --venv .venv --editable.

Needs Python 3.10-3.12 with its venv and development files and a C++ compiler, and nothing else.
Installs the versions pinned in requirements/, writes a stamp with the hash of the pins, and does
nothing while the stamp matches. It also starts on unsupported Python versions, to refuse them with
a useful message.

BMP_KEEP_TORCH=1 keeps the torch and torchvision that are in the environment already.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

# Plain modules of this folder: the project cannot be imported before its environment exists.
from setup_checks import (
    SUPPORTED,
    SetupError,
    check_machine,
    cuda_build,
    inspect_machine,
    nvcc_version,
    parallel_jobs,
)
from setup_runner import PIN_FILES, ROOT, Installer, Step

# Raise it when the same pins are installed in another way, so that old environments are updated.
SETUP_REVISION = 1
STAMP = 'bmp-stamp.json'
OPENCV_BUILDS = ('opencv-python', 'opencv-contrib-python', 'opencv-contrib-python-headless')
VERIFY = (
    'import torch, torchvision, cv2, mmcv.ops, xtcocotools.coco, mmdet.apis, mmpose.apis, '
    'mmpretrain, sam2'
)


def pins_key(requirements: Path = ROOT / 'requirements') -> str:
    """Hash the pins (12 hex digits); comments and blank lines do not count."""
    digest = hashlib.sha256(f'revision {SETUP_REVISION}'.encode())
    for name in PIN_FILES:
        lines = (
            line.partition('#')[0].strip()
            for line in (requirements / name).read_text('utf-8').splitlines()
        )
        digest.update('\n'.join([name, *sorted(filter(None, lines))]).encode())
    return digest.hexdigest()[:12]


def has_pins(venv: Path, wanted: Mapping[str, str]) -> bool:
    """Whether the environment has a working interpreter and all wanted pins."""
    return os.access(venv / 'bin' / 'python', os.X_OK) and (
        read_stamp(venv).get('pins') == wanted['pins']
    )


def is_current(venv: Path, wanted: Mapping[str, str]) -> bool:
    """Whether nothing is left to do; an unlinked environment may be linked to any checkout."""
    linked = wanted['checkout'] in ('', read_stamp(venv).get('checkout'))
    return has_pins(venv, wanted) and linked


@contextmanager
def locked(venv: Path) -> Iterator[None]:
    """Let one process at a time work on the environment; the others wait and say so."""
    import fcntl  # not on Windows, which is refused with a message before this line

    venv.mkdir(parents=True, exist_ok=True)
    with (venv / 'bmp-setup.lock').open('w') as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f'Waiting for another set-up of {venv} ...', flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def read_stamp(venv: Path) -> dict[str, str]:
    """Return the stamp of a finished set-up: `pins` and `checkout`; empty when there is none."""
    try:
        stamp = json.loads((venv / STAMP).read_text('utf-8'))
    except (OSError, ValueError):
        return {}
    return {str(key): str(value) for key, value in stamp.items()} if isinstance(stamp, dict) else {}


def ensure_venv(installer: Installer) -> None:
    """Create the environment, or check that the one that is there can be used.

    Raises:
        SetupError: The folder holds something else, or an unsupported Python.
    """
    venv = installer.venv
    foreign = [path for path in venv.iterdir() if not path.name.startswith('bmp-')]
    if foreign and not (venv / 'pyvenv.cfg').exists():
        cure = 'Name another folder: BMP_VENV=/path'
        raise SetupError(f'{venv} exists and is not a Python environment.', cure)
    # Without pip it is the rest of an interrupted attempt and is created again.
    version = installer.output('import pip, sys; print(*sys.version_info[:2])') if foreign else ''
    if version and tuple(map(int, version.split())) not in SUPPORTED:
        found = version.replace(' ', '.')
        raise SetupError(f'{venv} has Python {found}; 3.10-3.12 work.', f'Delete it: rm -r {venv}')
    if version:
        installer.say(f'[1/7] Use the environment {venv}')
        return
    if foreign and not installer.log_path.exists():
        cure = f'Repair it ({venv}/bin/python -m ensurepip), or name another: BMP_VENV=/path'
        raise SetupError(f'{venv} has no working Python with pip.', cure)
    for name in ('bin', 'include', 'lib'):  # of our own attempt; --clear would delete the lock too
        shutil.rmtree(venv / name, ignore_errors=True)
    command = (sys.executable, '-m', 'venv', str(venv))
    installer.run(Step(f'[1/7] Create the environment {venv} (seconds)', (command,)))


def keep_torch(installer: Installer) -> None:
    """Pin torch and torchvision to what is installed, for a CUDA build chosen by hand.

    Raises:
        SetupError: torch or torchvision is not installed.
    """
    code = 'from importlib.metadata import version as v; print(v("torch"), v("torchvision"))'
    versions = installer.output(code).split()
    if not versions:
        cure = f'Install both with {installer.python} -m pip, or unset BMP_KEEP_TORCH.'
        raise SetupError('BMP_KEEP_TORCH is set, but torch or torchvision is not installed.', cure)
    text = installer.pin_files[0].read_text('utf-8')
    for name, version in zip(('torch', 'torchvision'), versions, strict=True):
        text = re.sub(rf'(?m)^{name}==.*$', f'{name}=={version}', text)
    installer.pin_files[0] = installer.venv / 'bmp-torch.txt'
    installer.pin_files[0].write_text(text, 'utf-8')


def install_pins(installer: Installer) -> None:
    """Install everything that is pinned, in the one order that works."""
    requirements = ROOT / 'requirements'
    if os.environ.get('BMP_KEEP_TORCH') == '1':
        keep_torch(installer)
    installer.run(
        Step(
            '[2/7] Install PyTorch and build tools (about 3 GB to download, 2 to 10 minutes)',
            (installer.install('-r', str(installer.pin_files[0])),),
        )
    )
    probe = 'import torch; print(int(torch.cuda.is_available()), torch.version.cuda or "")'
    gpu, _, torch_cuda = installer.output(probe).partition(' ')
    build_env, note = cuda_build(gpu == '1', torch_cuda or None, nvcc_version())
    # SAM 2's only extension fills holes of masks on the GPU; this project does that with OpenCV.
    build_env = {'SAM2_BUILD_CUDA': '0', 'MAX_JOBS': str(parallel_jobs()), **build_env}
    if 'MAX_JOBS' in os.environ:
        build_env['MAX_JOBS'] = os.environ['MAX_JOBS']
    # xtcocotools' wheels are built for NumPy 1; mmcv must be compiled against the torch of step 2.
    build = ('--no-build-isolation', '--no-binary', 'xtcocotools')
    packages = str(requirements / 'openmmlab.txt')
    installer.run(
        Step(
            '[3/7] Compile onedl-mmcv, install the OpenMMLab packages and SAM 2\n'
            '      (about 10 minutes on 2 cores, once: pip caches the wheel)'
            + (f'\n      {note}' if note else ''),
            (installer.install('-v', *build, '-r', packages),),
            build_env,
        )
    )
    extra = ('-r', str(requirements / 'runtime.txt'), '-r', str(requirements / 'dev.txt'))
    installer.run(
        Step('[4/7] Install the remaining packages (a minute)', (installer.install(*extra),))
    )
    keep_one_opencv(installer)
    verify(installer, build_env)


def keep_one_opencv(installer: Installer) -> None:
    """Leave exactly one OpenCV build, the headless one.

    onedl-mmcv and mmpose ask for opencv-python, imaug (through onedl-mmdetection) for both builds.
    Both write into the same folder `cv2`, so whichever came last wins, an upgrade of one breaks
    the other, and opencv-python needs libGL, which servers lack. They offer the same functions but
    for windows, which nothing here opens. The price: `pip check` reports opencv-python as missing.
    """
    title = '[5/7] Keep one OpenCV build, the headless one (seconds)'
    code = (
        'from importlib.metadata import distributions\n'
        'print(*{d.metadata["Name"].lower().replace("_", "-") for d in distributions()})'
    )
    found = set(installer.output(code).split()) & set(OPENCV_BUILDS)
    if not found:
        installer.say(title + ': nothing to do')
        return
    headless = 'opencv-python-headless'
    commands = (
        installer.pip('uninstall', '-y', headless, *sorted(found)),
        installer.install('--no-deps', headless),
    )
    installer.run(Step(title, commands))


def verify(installer: Installer, build_env: Mapping[str, str]) -> None:
    """Import the libraries once; rebuild mmcv when its binary does not fit this torch.

    pip caches the compiled wheel by version only. One that was compiled against another torch
    installs without complaint and fails at import.
    """
    installer.say('[6/7] Import the libraries (seconds)')
    if not installer.output('import mmcv.ops; print("ok")'):
        pin = next(
            line
            for line in (ROOT / 'requirements' / 'openmmlab.txt').read_text('utf-8').splitlines()
            if line.startswith('onedl-mmcv==')
        )
        flags = ('-v', '--no-cache-dir', '--force-reinstall', '--no-deps', '--no-build-isolation')
        installer.run(
            Step(
                '      the cached onedl-mmcv does not fit this torch: compile again (10 minutes)',
                (installer.install(*flags, pin),),
                build_env,
            )
        )
    installer.run(Step('      all of them', ((installer.python, '-c', VERIFY),)))


def link_checkout(installer: Installer, editable: bool) -> None:
    """Install the project itself in editable form, unless the environment is a shared one."""
    if not editable:
        installer.say('[7/7] Shared environment: the project is used through PYTHONPATH')
        return
    flags = ('--no-deps', '--no-build-isolation', '-e', str(ROOT))
    command = installer.pip('install', '--progress-bar', 'off', *flags)
    installer.run(Step('[7/7] Link this checkout (pip install -e, seconds)', (command,)))


def set_up(venv: Path, *, editable: bool) -> None:
    """Bring the environment to the pinned state; instant when it is there already.

    Raises:
        SetupError: Something is missing or a step failed.
    """
    wanted = {'pins': pins_key(), 'checkout': str(ROOT) if editable else ''}
    if is_current(venv, wanted):
        return
    if not has_pins(venv, wanted):
        check_machine(inspect_machine(venv))
    begin = time.monotonic()
    with locked(venv):
        if is_current(venv, wanted):  # another process finished it while this one waited
            return
        installer = Installer(venv)
        if not has_pins(venv, wanted):
            (venv / STAMP).unlink(missing_ok=True)
            ensure_venv(installer)
            install_pins(installer)
        link_checkout(installer, editable)
        (venv / STAMP).write_text(json.dumps(wanted), 'utf-8')
    minutes, seconds = divmod(int(time.monotonic() - begin), 60)
    installer.say(f'The environment {venv} is ready after {minutes}:{seconds:02d} minutes.')


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description='Create or update the environment.')
    parser.add_argument('--venv', type=Path, default=ROOT / '.venv', help='folder (%(default)s)')
    parser.add_argument('--editable', action='store_true', help='link this checkout into it')
    parser.add_argument('--key', action='store_true', help='print Python version and hash of pins')
    options = parser.parse_args(arguments)
    if options.key:
        print('py{}.{}-{}'.format(*sys.version_info[:2], pins_key()))
        return 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # also stops what it has started
    try:
        set_up(options.venv.expanduser().absolute(), editable=options.editable)
    except SetupError as error:
        print(f'Error: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('Stopped. Run the same command again to go on.', file=sys.stderr)
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())
