"""Shared options of the commands, and the exit codes."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from pipeline.cli import run, test, train
from pipeline.cli.options import get_overrides, handle_errors, parse_cfg_options

# As MMEngine's tools read them.
VALUES: list[tuple[str, Any]] = [
    ('1', 1), ('-1', -1), ('2.5', 2.5), ('1e-4', 1e-4), ('true', True), ('True', True),
    ('false', False), ('False', False), ('None', None), ('none', 'none'), ('text', 'text'),
    ("'text'", 'text'), ('a=b', 'a=b'), ('work_dirs/a.pth', 'work_dirs/a.pth'), ('1,2', [1, 2]),
    ('[1,2]', [1, 2]), ('(a,2)', ('a', 2)), ('[(1,false),(2,x)]', [(1, False), (2, 'x')]),
]  # fmt: skip


@pytest.mark.parametrize(('text', 'value'), VALUES, ids=[text for text, _ in VALUES])
def test_values_are_those_of_mmengine(text: str, value: Any) -> None:
    (parsed,) = parse_cfg_options([f'a.b={text}']).values()
    assert parsed == value and type(parsed) is type(value)


@pytest.mark.parametrize('command', [run, test, train], ids=['run', 'test', 'train'])
@pytest.mark.parametrize('pair', ['photos', '=1'])
def test_cfg_options_must_be_pairs(
    command: Any, pair: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        command.main(['x', '--cfg-options', 'a=1', pair])
    assert end.value.code == 2
    assert f"got '{pair}'; write KEY=VALUE" in capsys.readouterr().err


@pytest.mark.parametrize(
    ('arguments', 'options'),
    [
        ([], {}),
        (['--cfg-options', 'loop.refine=0', '--refine'], {'loop.refine': True}),
        (['--slices', 'off'], {'detector.slices.grid': None}),
        (
            ['--slices', '3x2', '--cfg-options', 'detector.slices.from_round=2'],
            {'detector.slices.grid': '3x2', 'detector.slices.from_round': 2},
        ),
        (['--no-refine', '--max-rounds', 'none'], {'loop.refine': False, 'loop.max_rounds': None}),
        (
            ['--device', 'cpu', '--precision', 'bf16'],
            {'runtime.device': 'cpu', 'runtime.precision': 'bf16'},
        ),
    ],
)
def test_named_options_win(arguments: list[str], options: dict[str, Any]) -> None:
    args = run.build_parser().parse_args(['photo.jpg', *arguments])
    assert get_overrides(args) == options


@pytest.mark.parametrize(
    ('error', 'code'),
    [
        (ValueError('no'), 2),
        (OSError(errno.ENOENT, 'no'), 2),
        (OSError(errno.EACCES, 'no'), 1),
        (KeyboardInterrupt(), 130),
    ],
    ids=['input', 'absent', 'file', 'interrupt'],
)
def test_exit_codes(error: BaseException, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end, handle_errors('tool.py'):
        raise error
    assert end.value.code == code
    assert ('tool.py: error: ' in capsys.readouterr().err) == (code != 130)


def test_other_errors_are_not_hidden() -> None:
    with pytest.raises(KeyError), handle_errors('tool.py'):
        raise KeyError('a fault')


def test_long_values_are_cut_in_errors(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit), handle_errors('bmp'):
        raise ValueError('first\n' + 'x' * 9000)
    assert max(map(len, capsys.readouterr().err.splitlines())) < 2100
