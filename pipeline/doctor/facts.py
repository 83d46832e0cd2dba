"""Reads facts about the environment without importing anything that may be broken.

Only the standard library is used. Libraries are imported in a child process, because a broken
binary can end the interpreter that imports it.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

PROJECT_ROOT = Path(__file__).resolve().parents[2]
PROBE_TIMEOUT_S = 300.0
_MARK = 'doctor-probe:'


@dataclass(frozen=True)
class Probe:
    """Result of a code snippet in a child process.

    Attributes:
        error: '' when it ran to its end, else the last line of its error output.
        values: What the snippet reported.
        output: All error output; one-line messages often stand above the last line.
    """

    error: str = ''
    values: Mapping[str, object] = field(default_factory=dict)
    output: str = ''

    def text(self, key: str) -> str:
        """Return a reported value as text, '' when it is missing or None."""
        value = self.values.get(key)
        return '' if value is None else str(value)


Runner = Callable[[str], Probe]


def run_probe(code: str) -> Probe:
    """Run Python code in a child process with this interpreter.

    Args:
        code: Statements; a call `report(name=value, ...)` hands values back.

    Returns:
        The values, or the error; a crash is an error too.
    """
    report = f'def report(**values):\n    print({_MARK!r} + json.dumps(values), flush=True)\n'
    prologue = f'import json\n{report}'
    command = [sys.executable, '-c', prologue + code]
    try:
        child = subprocess.run(
            command, capture_output=True, text=True, timeout=PROBE_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return Probe(error=f'no answer within {PROBE_TIMEOUT_S:.0f} s')
    values: dict[str, object] = {}
    for line in child.stdout.splitlines():
        if line.startswith(_MARK):
            values.update(json.loads(line[len(_MARK) :]))
    lines = [line.strip() for line in child.stderr.splitlines() if line.strip()]
    error = ''
    if child.returncode < 0:
        error = f'the interpreter crashed with signal {-child.returncode}'
    elif child.returncode > 0:
        error = lines[-1] if lines else f'exit code {child.returncode}'
    return Probe(error, values, child.stderr)


def installed_distributions() -> dict[str, str]:
    """Return the installed packages: normalised name -> version."""
    found: dict[str, str] = {}
    for distribution in metadata.distributions():
        name = distribution.metadata['Name']
        if name:  # half-removed packages leave a folder without a name
            found.setdefault(normalise(name), distribution.version)
    return found


def normalise(name: str) -> str:
    """Return the package name in the form in which pip compares names."""
    return re.sub(r'[-_.]+', '-', name).lower()


def read_pins(
    requirements: Path, python: tuple[int, int] | None = None, skip: tuple[str, ...] = ()
) -> dict[str, str]:
    """Read the pinned versions that hold for one Python version.

    Args:
        requirements: Folder with the *.txt files; each line is 'name==version', optionally with
            the marker ';python_version < "3.11"' (or another comparison).
        python: Major and minor version; default: the running one.
        skip: File names to leave out.

    Returns:
        Normalised name -> version; empty when the folder is not there.
    """
    version = python or sys.version_info[:2]
    pins = {}
    for path in sorted(requirements.glob('*.txt')):
        for line in path.read_text('utf-8').splitlines() if path.name not in skip else ():
            requirement, _, marker = line.partition('#')[0].partition(';')
            name, _, pin = requirement.partition('==')
            if pin.strip() and _marker_holds(marker, version):
                pins[normalise(name.strip())] = pin.strip()
    return pins


def _marker_holds(marker: str, python: tuple[int, int]) -> bool:
    if not marker.strip():
        return True
    match = re.fullmatch(r'\s*python_version\s*(<|>=|==)\s*"(\d+)\.(\d+)"\s*', marker)
    if match is None:
        raise ValueError(f'unknown marker {marker.strip()!r}; allowed: python_version <, >=, ==')
    sign, wanted = match.group(1), (int(match.group(2)), int(match.group(3)))
    return {'<': python < wanted, '>=': python >= wanted, '==': python == wanted}[sign]


def nvidia_driver() -> str | None:
    """Return the version of the NVIDIA driver, e.g. '580.65.06'; None without one."""
    try:
        text = Path('/proc/driver/nvidia/version').read_text('utf-8')
    except OSError:
        text = ''
    smi = shutil.which('nvidia-smi')
    if not text and smi:
        command = [smi, '--query-gpu=driver_version', '--format=csv,noheader']
        child = subprocess.run(command, capture_output=True, text=True, check=False)
        text = child.stdout if child.returncode == 0 else ''
    match = re.search(r'\b(\d{3,}\.\d+(?:\.\d+)?)\b', text)
    return match.group(1) if match else None
