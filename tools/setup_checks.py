"""What tools/setup_env.py asks about the machine before it installs, and the cures it knows.

Only the standard library is used, and the file also starts on unsupported Python versions, so
that these can be refused with a useful message.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

SUPPORTED = ((3, 10), (3, 11), (3, 12))
DISK_NEEDED_GB = 12
PYTHON_CURE = (
    'Install one of them with its venv and development files (Debian, Ubuntu: apt-get install '
    'python3.11 python3.11-venv python3.11-dev; elsewhere: pyenv install 3.11), then name it: '
    'make PYTHON=python3.11 demo'
)
# Searched in the log of a failed step, first match wins: (pattern, probable cure).
CURES = (
    (
        r'No space left on device',
        f'Free disk space: about {DISK_NEEDED_GB} GB are needed, some of it under $TMPDIR.',
    ),
    (
        r'Killed signal|fatal error: Killed|internal compiler error|Cannot allocate memory',
        'The compiler ran out of memory. Run again with one job at a time: MAX_JOBS=1 make env',
    ),
    (
        r'Python\.h: No such file',
        'Install the Python development files (Debian, Ubuntu: apt-get install python3-dev).',
    ),
    (
        r"No module named '?pkg_resources",
        'setuptools 82 or newer was used to build. Run make env again; it pins setuptools 81.',
    ),
    (
        r'detected CUDA version .* mismatches|CUDA_HOME environment variable is not set',
        'The CUDA toolkit does not fit this torch. Build for the CPU: '
        'CUDA_VISIBLE_DEVICES= FORCE_CUDA=0 make env',
    ),
    (
        r'name resolution|NewConnectionError|ProxyError|CERTIFICATE_VERIFY|ReadTimeout|timed out',
        'pip cannot reach its package index. Check the network, HTTPS_PROXY and `pip config list`, '
        'then run again.',
    ),
    (
        r'No matching distribution found|Could not find a version',
        'A pinned version is missing on your package index (an outdated mirror?) or has no build '
        'for this platform. Check `pip config list`; tested: Linux x86-64, Python 3.11.',
    ),
    (
        r'ResolutionImpossible|conflicting dependencies',
        'Pins contradict each other: restore requirements/ from git.',
    ),
    (
        r"error: command '[^']*(gcc|g\+\+|cc|c\+\+)' failed",
        'Install a C++17 compiler (Debian, Ubuntu: apt-get install build-essential).',
    ),
)


class SetupError(Exception):
    """A reason to stop, with what to do about it."""

    def __init__(self, problem: str, cure: str) -> None:
        super().__init__(f'{problem}\n  Cure: {cure}')


@dataclass(frozen=True)
class Machine:
    """What the set-up needs to know about the interpreter and the machine; tests pass their own.

    Attributes:
        python: Version of the interpreter that creates the environment.
        missing_modules: Those of `venv`, `ensurepip` that cannot be imported.
        has_headers: Whether Python.h is there.
        compiler: Path of the C++ compiler, None if there is none.
        free_gb: Free disk space where the environment goes, in GB.
        posix: False on Windows.
    """

    python: tuple[int, int]
    missing_modules: tuple[str, ...] = ()
    has_headers: bool = True
    compiler: str | None = '/usr/bin/g++'
    free_gb: float = 100.0
    posix: bool = True


def inspect_machine(venv: Path) -> Machine:
    """Look at this interpreter and this machine."""
    missing = []
    for name in (
        'venv',
        'ensurepip',
    ):  # Debian splits ensurepip off; `import venv` alone succeeds there
        try:
            __import__(name)
        except ImportError:
            missing.append(name)
    existing = next(folder for folder in (venv, *venv.parents) if folder.exists())
    return Machine(
        python=sys.version_info[:2],
        missing_modules=tuple(missing),
        has_headers=Path(sysconfig.get_paths()['include'], 'Python.h').is_file(),
        compiler=shutil.which(os.environ.get('CXX') or 'c++') or shutil.which('g++'),
        free_gb=shutil.disk_usage(existing).free / 1e9,
        posix=os.name == 'posix',
    )


def check_machine(machine: Machine) -> None:
    """Refuse at once what cannot work.

    Raises:
        SetupError: Naming what to install.
    """
    version = '.'.join(map(str, machine.python))
    apt = f'apt-get install python{version}'
    if not machine.posix:
        raise SetupError(
            'Windows is not supported by the model libraries.', 'Use WSL 2 with Ubuntu.'
        )
    if machine.python not in SUPPORTED:
        raise SetupError(
            f'Python {version} is not supported; 3.10, 3.11 and 3.12 are.', PYTHON_CURE
        )
    if machine.missing_modules:
        names = ' and '.join(machine.missing_modules)
        raise SetupError(f'Python {version} has no module {names}.', f'Debian, Ubuntu: {apt}-venv')
    if machine.compiler is None:
        raise SetupError(
            'No C++ compiler found (c++, g++ or $CXX); onedl-mmcv has to be compiled.',
            'Debian, Ubuntu: apt-get install build-essential',
        )
    if not machine.has_headers:
        raise SetupError(f'Python.h of Python {version} is missing.', f'Debian, Ubuntu: {apt}-dev')
    if machine.free_gb < DISK_NEEDED_GB:
        raise SetupError(
            f'Only {machine.free_gb:.0f} GB of disk are free; about {DISK_NEEDED_GB} are needed.',
            'Free some, or put the environment elsewhere: make env BMP_VENV=/big/disk/venv',
        )


def probable_cure(log_text: str) -> str:
    """Guess from the log of a failed step what to do."""
    for pattern, cure in CURES:
        if re.search(pattern, log_text):
            return cure
    return 'Read the lines above; docs/install.md lists the known traps. Then run it again.'


def cuda_build(
    gpu: bool, torch_cuda: str | None, nvcc_cuda: str | None
) -> tuple[dict[str, str], str]:
    """Decide whether mmcv's CUDA operators can be compiled.

    Args:
        gpu: Whether torch sees a GPU.
        torch_cuda: CUDA version that torch was built with, e.g. '13.0'.
        nvcc_cuda: CUDA version of the installed nvcc, None without one.

    Returns:
        Variables for the build and a sentence for the user ('' without a GPU).
    """
    if not gpu:
        return {}, ''
    if nvcc_cuda and torch_cuda and nvcc_cuda.split('.')[0] == torch_cuda.split('.')[0]:
        return {
            'FORCE_CUDA': '1'
        }, f'CUDA operators too, with nvcc {nvcc_cuda}: expect several times as long'
    # mmcv's setup.py stops when it sees a GPU but no fitting nvcc, so the GPU is hidden from it.
    found = f'nvcc is {nvcc_cuda}' if nvcc_cuda else 'there is no nvcc'
    return (
        {'CUDA_VISIBLE_DEVICES': '', 'FORCE_CUDA': '0'},
        f'CPU operators only: torch uses CUDA {torch_cuda}, {found} (docs/install.md, GPU)',
    )


def nvcc_version() -> str | None:
    """Return the release of the nvcc that torch would use, e.g. '12.9'; None without one."""
    home = os.environ.get('CUDA_HOME') or os.environ.get('CUDA_PATH')
    nvcc = (
        str(Path(home, 'bin', 'nvcc'))
        if home
        else shutil.which('nvcc') or '/usr/local/cuda/bin/nvcc'
    )
    try:
        text = subprocess.run(
            [nvcc, '--version'], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    match = re.search(r'release (\d+\.\d+)', text)
    return match.group(1) if match else None


def parallel_jobs() -> int:
    """Compiler processes at once: one per core, but at least 1.5 GB of memory for each."""
    memory_gb = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1e9
    return max(1, min(os.cpu_count() or 1, int(memory_gb / 1.5)))
