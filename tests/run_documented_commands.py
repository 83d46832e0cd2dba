"""Run every documented command that needs no download: python tests/run_documented_commands.py.

The comment <!-- run --> before a fenced block of bash or Python marks it. The working directory is
a temporary folder with the layout of the repository, and drawn crowds replace user images.
Arguments select pages, e.g. README.md docs/quickstart.md. Exit code 1: a block failed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.documents import ROOT, Block, blocks, pages

# tests/train/test_docs_openmmlab.py runs this page and checks the results.
TESTED_ELSEWHERE = ROOT / 'docs' / 'user_guide' / 'openmmlab.md'


def prepare(folder: Path) -> None:
    """Links to the repository, and the images that the documents name."""
    for name in ('checkpoints', 'configs', 'projects', 'tools'):
        if (ROOT / name).exists():
            (folder / name).symlink_to(ROOT / name)
    command = 'python tools/make_synthetic_crowd.py crowd --num-images 2 --size 320 240 --seed 7'
    run('bash', command, folder)
    first, second = sorted((folder / 'crowd').rglob('*.jpg'))
    for name in ('img.jpg', 'images/a.jpg', 'more/deep/b.jpg'):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(first.read_bytes())
    (folder / 'images' / 'c.jpg').write_bytes(second.read_bytes())
    (folder / 'list.txt').write_text('# one image per line\nimg.jpg\n')


def run(language: str, text: str, folder: Path) -> str:
    """Run a script in ``folder``.

    Raises:
        RuntimeError: with the output, if the script fails.
    """
    python = f'python() {{ {sys.executable} -W ignore "$@"; }}\nset -e\n'
    commands = {'bash': ['bash', '-c', python + text], 'python': [sys.executable, '-c', text]}
    variables = {**os.environ, 'PYTHONPATH': str(ROOT), 'MPLBACKEND': 'Agg', 'OMP_NUM_THREADS': '1'}
    done = subprocess.run(
        commands[language], cwd=folder, env=variables, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stdout[-3000:] + done.stderr[-3000:])
    return done.stdout


def say(text: str) -> None:
    """Print one message at once, also into a log file."""
    sys.stdout.write(f'{text}\n')
    sys.stdout.flush()


def scripts(page: Path) -> Iterator[Block]:
    """Marked blocks of a page; its Python blocks joined into one, after the commands."""
    marked = [block for block in blocks(page) if block.mark == 'run']
    yield from (block for block in marked if block.language == 'bash')
    python = [block for block in marked if block.language == 'python']
    if python:
        text = ''.join(block.text for block in python)
        yield Block(page, python[0].line, 'run', 'python', text)


def main(names: list[str]) -> int:
    """Run the blocks of the named pages, or of all; returns the exit code."""
    chosen = [(ROOT / name).resolve() for name in names] or pages()
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        prepare(Path(name))
        for block in (b for page in chosen if page != TESTED_ELSEWHERE for b in scripts(page)):
            before = time.monotonic()
            try:
                run(block.language, block.text, Path(name))
            except RuntimeError as error:
                say(f'{block}: FAILED\n{block.text}\n{error}')
                return 1
            say(f'{block}: {time.monotonic() - before:.1f} s')
    say(f'all documented commands ran in {time.monotonic() - start:.0f} s')
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
