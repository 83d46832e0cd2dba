"""Kill `bmp run` at random moments and resume it: its files equal those of one whole run.

python -m tests.fuzz.kill --count 100 --seed 0
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from pipeline.cli import run
from pipeline.io.run_options import OUTPUTS
from pipeline.structures import People
from tests.run_fakes import FakePipeline, contents, done_records, save_image

IMAGES, SECONDS = 12, 0.01  # images of a run, and s of the model per image


def run_command(folder: Path, out: Path) -> None:
    """Run ``bmp run`` with a pipeline without models; exits with its code."""
    run.load = lambda *_: FakePipeline(seconds=SECONDS)  # type: ignore[assignment,return-value]
    People.draw = lambda self, image, style: image  # type: ignore[method-assign,assignment]
    log = out.with_suffix('.log').open('w')
    save = [name for name in OUTPUTS if name != 'report']  # it states the name and times of a run
    with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        sys.exit(run.main([str(folder), '--out-dir', str(out), '--save', *save]))


def run_until(folder: Path, out: Path, seconds: float | None) -> bool:
    """Start a run, kill it after ``seconds``; whether it was killed.

    Raises:
        AssertionError: The run failed.
    """
    child = multiprocessing.get_context('fork').Process(target=run_command, args=(folder, out))
    child.start()
    child.join(seconds)
    child.kill()  # SIGKILL; nothing if it is over
    child.join()
    assert child.exitcode in (0, -9), out.with_suffix('.log').read_text()
    return child.exitcode != 0


def main(argv: Sequence[str] | None = None) -> int:
    """Kill and resume runs until ``--count`` kills are done; prints how many, returns 0."""
    parser = argparse.ArgumentParser('python -m tests.fuzz.kill', description=__doc__)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--count', type=int, default=100)
    args = parser.parse_args(argv)
    rng, kills, runs, lost = random.Random(args.seed), 0, 0, 0
    with tempfile.TemporaryDirectory() as name:
        folder, whole, out = (Path(name, part) for part in ('in', 'whole', 'out'))
        for i in range(IMAGES):
            save_image(folder / f'{i % 3}' / f'{i}.png', 20 + i)
        start = time.monotonic()
        assert not run_until(folder, whole, None)
        seconds = time.monotonic() - start
        while kills < args.count:
            before = done_records(out)
            killed = run_until(folder, out, rng.uniform(0, 1.5 * seconds))
            lost += done_records(out) < before
            kills += killed
            if not killed or kills == args.count:
                assert not killed or not run_until(folder, out, None)
                assert contents(out) == contents(whole), 'the files differ'
                runs += 1
                shutil.rmtree(out)
    print(f'{kills} kills in {runs} runs of {IMAGES} images, seed {args.seed}: same files, '
          f'{lost} predictions lost')  # fmt: skip
    return int(lost > 0)


if __name__ == '__main__':
    sys.exit(main())
