"""Runs the steps of tools/setup_env.py: output into a log, signs of life for the user."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from setup_checks import SetupError, probable_cure

ROOT = Path(__file__).resolve().parent.parent
PIN_FILES = ('torch.txt', 'openmmlab.txt', 'runtime.txt', 'dev.txt', 'constraints.txt')
HEARTBEAT_S = 30.0


def announce(line: str) -> None:
    """Print at once, also into a pipe."""
    print(line, flush=True)


@dataclass(frozen=True)
class Step:
    """One visible step: its title, the commands to run in order, variables added for them."""

    title: str
    commands: tuple[tuple[str, ...], ...]
    env: Mapping[str, str] = field(default_factory=dict)


class Installer:
    """Runs the steps in one environment and tells the user about them.

    Args:
        venv: Folder of the environment.
        say: Takes each line for the user.
        heartbeat_s: Seconds between signs of life of a long step.
    """

    def __init__(
        self, venv: Path, say: Callable[[str], None] = announce, heartbeat_s: float = HEARTBEAT_S
    ) -> None:
        self.venv = venv
        self.python = str(venv / 'bin' / 'python')
        self.log_path = venv / 'bmp-setup.log'
        self.say = say
        self.heartbeat_s = heartbeat_s
        self.pin_files = [ROOT / 'requirements' / name for name in PIN_FILES]

    def pip(self, *arguments: str) -> tuple[str, ...]:
        """Return a pip command line for this environment."""
        return (self.python, '-m', 'pip', '--disable-pip-version-check', '--no-input', *arguments)

    def install(self, *arguments: str) -> tuple[str, ...]:
        """Return a `pip install` command line with all pins as constraints."""
        pins = [part for path in self.pin_files for part in ('-c', str(path))]
        return self.pip('install', '--progress-bar', 'off', *arguments, *pins)

    def run(self, step: Step) -> None:
        """Run a step, its output going to the log.

        Raises:
            SetupError: The step failed; the message holds the end of the log and a probable cure.
        """
        self.say(step.title)
        for command in step.commands:
            start = self.log_path.stat().st_size if self.log_path.exists() else 0
            if self._run_command(command, step.env) != 0:
                text = self.log_path.read_text('utf-8', errors='replace')[start:]
                tail = '\n'.join('    ' + line[:300] for line in text.splitlines()[-30:])
                raise SetupError(
                    f'This step failed. The end of {self.log_path}:\n{tail}', probable_cure(text)
                )

    def _run_command(self, command: Sequence[str], extra_env: Mapping[str, str]) -> int:
        # PYTHONPATH would show pip the checkout as installed, PIP_USER and PIP_TARGET would
        # install elsewhere.
        env = {
            key: value
            for key, value in os.environ.items()
            if key not in ('PYTHONPATH', 'PIP_USER', 'PIP_TARGET')
        }
        env.update(extra_env)
        begin = time.monotonic()
        with self.log_path.open('ab') as log:
            log.write(f'\n$ {" ".join(command)}\n'.encode())
            log.flush()
            start = log.tell()
            # A session of its own, so that compilers started by pip can be stopped with it.
            process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=env,
                start_new_session=True,
            )
            try:
                while True:
                    try:
                        return process.wait(timeout=self.heartbeat_s)
                    except subprocess.TimeoutExpired:
                        minutes, seconds = divmod(int(time.monotonic() - begin), 60)
                        self.say(f'      {minutes}:{seconds:02d} {self._last_activity(start)}')
            except BaseException:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGTERM)
                process.wait()
                raise

    def _last_activity(self, start: int) -> str:
        """Tell from the log behind byte `start` what the running command is doing."""
        with self.log_path.open('rb') as log:
            log.seek(max(start, self.log_path.stat().st_size - 20000))
            lines = log.read().decode('utf-8', errors='replace').splitlines()
        for line in reversed(lines):
            compiled = re.match(r'\s*\[(\d+)/(\d+)\]', line)
            if compiled:
                return f'compiled {compiled.group(1)} of {compiled.group(2)} files'
            if line.strip().startswith("building '"):
                return 'compiling'
            if line.startswith('Installing collected packages'):
                return 'copying the packages into place'
            named = re.match(
                r'\s*(Collecting|Processing|Downloading|Building wheel for)\s(\S+)', line
            )
            if named:
                return f'{named.group(1).lower()} {Path(named.group(2)).name}'[:100]
        return 'still running'

    def output(self, code: str) -> str:
        """Return what a Python snippet prints in the environment; '' when it fails."""
        command = [self.python, '-c', code]
        try:
            result = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError:  # no interpreter there, or a broken link
            return ''
        return result.stdout.strip() if result.returncode == 0 else ''
