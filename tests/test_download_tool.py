"""tools/download_checkpoints.py: stopped and started again, side by side, and what it prints."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

import download_checkpoints
from pipeline.downloads.progress import Bar, Lines
from pipeline.weights.checkpoints import recorded_sha256, sha256_of
from tests.web_server import Site, fake_weights, serve

ROOT = Path(__file__).resolve().parents[1]
TOOL = ROOT / 'tools' / 'download_checkpoints.py'
GOOD = fake_weights()
OTHER = fake_weights(seed=1)
SHA = hashlib.sha256(GOOD).hexdigest()
HALF = len(GOOD) // 2
REST = f'bytes={HALF}-'

pytestmark = pytest.mark.usefixtures('direct')

# The mirror is ours, and all https goes nowhere.

NAME, FILE = 'sam2.1_hiera_tiny', 'sam2.1_hiera_tiny.pt'
NOWHERE = {'HTTPS_PROXY': 'http://127.0.0.1:9', 'https_proxy': 'http://127.0.0.1:9'}
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def tool(
    site: Site,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Runs the tool in this process: exit code, stdout, stderr."""
    for name, value in {**NOWHERE, 'BMP_MIRROR': f'{site.url}/m'}.items():
        monkeypatch.setenv(name, value)

    def run(*arguments: str) -> tuple[int, str, str]:
        try:
            code = download_checkpoints.main(['--dir', str(tmp_path), '--retries', '0', *arguments])
        except SystemExit as stop:  # of argparse
            code = int(str(stop.code))
        return code, *capsys.readouterr()

    return run


def start_tool(site: Site, folder: Path, *arguments: str) -> subprocess.Popen:
    variables = {**os.environ, **NOWHERE, 'BMP_MIRROR': f'{site.url}/m'}
    command = [sys.executable, str(TOOL), '--dir', str(folder), '--retries', '0', *arguments]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=variables,
        # Ctrl-C counts even if the tests run in the background, where shells ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize('how', [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_download_asks_for_the_rest_only(
    how: signal.Signals, site: Site, tmp_path: Path, tool: Run
) -> None:
    site.answers[f'/m/{FILE}'] = [
        serve(GOOD, stop_after=HALF, stall=True, step=33_000),  # the last piece is a small one
        serve(GOOD),
    ]
    process = start_tool(site, tmp_path, NAME)
    part = tmp_path / f'{FILE}.part'
    until(lambda: part.exists() and part.stat().st_size == HALF)
    process.send_signal(how)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == (130 if how == signal.SIGINT else -how)
    assert 'Traceback' not in errors
    assert part.stat().st_size == HALF and not (tmp_path / FILE).exists()
    code, output, errors = tool(NAME)
    assert (code, site.ranges()) == (0, [None, REST]), errors
    assert f'{NAME}: fetched' in output
    assert sha256_of(tmp_path / FILE) == SHA == recorded_sha256(tmp_path / FILE)


def test_processes_side_by_side_download_once(site: Site, tmp_path: Path) -> None:
    site.answers[f'/m/{FILE}'] = [serve(GOOD, step=4_000)]
    processes = [start_tool(site, tmp_path, NAME) for _ in range(2)]
    outputs = [p.communicate(timeout=60)[0] for p in processes]
    assert sorted('fetched' in text for text in outputs) == [False, True]
    assert [p.returncode for p in processes] == [0, 0]
    assert len(site.seen) == 1


def test_list_verify_and_force(site: Site, tmp_path: Path, tool: Run) -> None:
    (tmp_path / FILE).write_bytes(GOOD)
    (tmp_path / 'sam2.1_hiera_large.pt').write_text('version https://git-lfs.github.com/spec/v1')
    code, output, _ = tool('--list')
    rows = {line.split()[0]: line for line in output.splitlines() if line.strip()}
    assert code == 1 and 'wrong: it is a git-lfs pointer' in rows['sam2.1_hiera_large']
    assert ' here ' in rows[NAME] and ' absent ' in rows['vitpose-b']
    size = (ROOT / 'checkpoints/vitpose_compact.pth').stat().st_size / 1e6
    assert f' {size:.1f} MB  here (embedded)' in rows['vitpose_compact']
    assert 'GPL-3.0' in rows['PMPose-b-1.0.0']
    site.answers['/m/sam2.1_hiera_small.pt'] = [serve(GOOD, stop_after=HALF)]
    assert tool('sam2.1_hiera_small')[0] == 1
    output = tool('--list', 'sam2.1_hiera_small')[1]
    assert 'partly: 100.1 kB of 200.1 kB' in output and '1 partly' in output
    code, output, _ = tool('--verify', NAME)
    assert code == 0 and 'sha256 recorded now' in output
    (tmp_path / FILE).write_bytes(OTHER)
    code, output, _ = tool('--verify')
    assert code == 1 and f'download_checkpoints.py {NAME} --force' in output
    site.answers[f'/m/{FILE}'] = [serve(OTHER)]
    code, output, _ = tool(NAME, '--force')
    assert code == 0 and 'fetched' in output
    assert tool('--verify', NAME)[0] == 0
    assert tool('--verify', NAME, 'vitpose-b')[0] == 1


def test_a_pipeline_names_all_its_files(site: Site, tmp_path: Path, tool: Run) -> None:
    files = ['rtmdet-ins-l-mask.pth', 'PMPose-b-1.0.0.pth', 'SAM-pose2seg_hiera_b+.pt']
    code, _, errors = tool('--pipeline', 'bmp_v2', '--offline')
    assert code == 1 and not site.seen
    assert errors.count('offline: 3 weights are not here') == 1
    for file in files:
        assert str(tmp_path / file) in errors
    for i, file in enumerate(files):
        site.answers[f'/m/{file.replace("+", "%2B")}'] = [serve(fake_weights(seed=i))]
    code, output, errors = tool('--pipeline', 'bmp_v2')
    assert code == 0 and output.count('fetched') == 3, errors
    assert all((tmp_path / file).is_file() for file in files)
    code, output, _ = tool('--pipeline', 'bmp_v2', '--offline')
    assert code == 0 and output.count('was here') == 3


def test_one_bad_file_does_not_keep_the_others_away(site: Site, tmp_path: Path, tool: Run) -> None:
    site.answers[f'/m/{FILE}'] = [serve(GOOD)]
    code, output, errors = tool('vitpose-b', NAME)
    assert code == 1 and f'{NAME}: fetched' in output
    assert 'vitpose-b could not be downloaded' in errors and 'HTTP 404' in errors


def test_a_config_with_files_of_its_own(site: Site, tmp_path: Path, tool: Run) -> None:
    config = tmp_path / 'mine.py'
    config.write_text(
        "detector = dict(config='a.py', checkpoint='a.pth')\n"
        "pose = dict(config='a.py', checkpoint=None)\n"
        "segmenter = dict(config='a.yaml', checkpoint='a.pth')\n"
    )
    code, _, errors = tool('--pipeline', str(config))
    assert code == 1 and "no weights 'a.pth'" in errors
    (tmp_path / 'a.pth').write_bytes(GOOD)
    code, output, _ = tool('--pipeline', str(config))
    assert code == 0 and 'nothing to download' in output and not site.seen


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['PMPose-b'], 'no weights PMPose-b (did you mean PMPose-b-1.0.0'),
        ([], 'say what to download'),
        (['--pipeline', 'bmp_v3'], "no pipeline config 'bmp_v3'"),
    ],
    ids=['unknown name', 'nothing', 'unknown pipeline'],
)
def test_wrong_arguments(arguments: list[str], message: str, tool: Run) -> None:
    code, _, errors = tool(*arguments)
    assert code == 2 and message in errors


def test_bars_on_a_terminal_and_lines_elsewhere() -> None:
    screen = io.StringIO()
    with Bar(Console(file=screen, force_terminal=True, width=100)) as bar:
        bar.begin('w', 50_000, 200_000)
        bar.message('[0] a message')
        bar.advance(50_000)
        bar.begin('v', 0, None)
    assert '[0] a message' in screen.getvalue()
    assert '100.0/200.0 kB' in screen.getvalue()
    paper = io.StringIO()
    with Lines(Console(file=paper), interval_s=0) as lines:
        lines.begin('w', 50_000, 200_000)
        lines.advance(50_000)
    assert paper.getvalue() == 'w: 200.0 kB, 50.0 kB of it are here\nw: 100.0 kB of 200.0 kB\n'
    assert '\x1b' not in paper.getvalue()
