"""Each imported package is declared in setup.cfg; each declared one is imported or explained."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from pipeline.__main__ import COMMANDS, EXTRAS, main

ROOT = Path(__file__).parents[2]
DISTRIBUTIONS = {  # where the import name differs
    'PIL': 'pillow',
    'cv2': 'opencv-python-headless',
    'faster_coco_eval': 'faster-coco-eval',
    'hydra': 'hydra-core',
    'mmcv': 'onedl-mmcv',
    'mmdet': 'onedl-mmdetection',
    'mmengine': 'onedl-mmengine',
}


def imported_packages() -> set[str]:
    """Import names of all packages, also of imports inside functions."""
    names = []
    for path in (ROOT / 'pipeline').rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.append(str(node.module))
    tops = {name.partition('.')[0] for name in names}
    return tops - {'pipeline'} - set(sys.stdlib_module_names)


def declared_packages() -> dict[str, tuple[str, bool]]:
    """Distribution -> its group in setup.cfg, and whether a comment above it explains it."""
    found = {}
    group = before = ''
    for line in (ROOT / 'setup.cfg').read_text().splitlines():
        if line.startswith('[') or line.endswith(' ='):
            group = line.removesuffix(' =')
        elif line.startswith('    ') and line.strip()[0].isalpha() and '=' in line.strip()[1:]:
            if group not in ('console_scripts', 'dev', 'docs'):
                found[Requirement(line.strip()).name] = (group, before.startswith('    #'))
        before = line
    return found


def test_imports_and_declarations_agree() -> None:
    imported = {DISTRIBUTIONS.get(name, name) for name in imported_packages()}
    declared = declared_packages()
    assert len(declared) > 20
    assert not imported - set(declared), 'imported, but not declared in setup.cfg'
    explained = {name for name, (_, comment) in declared.items() if comment}
    assert set(declared) - imported == explained, 'declared, but neither imported nor explained'


def test_the_extras_are_those_that_the_message_names() -> None:
    extras = {n: group for n, (group, _) in declared_packages().items() if group in EXTRAS.values()}
    assert {DISTRIBUTIONS.get(name, name): extra for name, extra in EXTRAS.items()} == extras


def test_an_absent_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, 'faster_coco_eval', None)
    monkeypatch.setitem(COMMANDS, 'score', ('cli.needs_eval', ''))
    module = type(sys)('pipeline.cli.needs_eval')
    exec('def main(argv): import faster_coco_eval', module.__dict__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    assert main(['score', 'results.json']) == 1
    assert "pip install 'bbox-mask-pose[eval]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ('arguments', 'code', 'text'),
    [
        ([], 0, 'usage: bmp COMMAND'),
        (['--help'], 0, 'check the installation'),
        (['--version'], 0, 'bbox-mask-pose 0.'),
        (['no-such'], 2, "no command 'no-such'"),
    ],
)
def test_the_command_line_without_a_command(
    arguments: list[str], code: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == code
    printed = capsys.readouterr()
    assert text in printed.out + printed.err
    if 'COMMAND' in printed.out + printed.err:
        assert all(f'  {name} ' in printed.out + printed.err for name in COMMANDS)


@pytest.mark.parametrize('name', COMMANDS)
def test_each_command_has_a_help_and_no_abbreviations(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main([name, '--help'])
    text = capsys.readouterr().out
    assert end.value.code == 0 and text.startswith('usage: bmp ')
    assert 'tools/' not in text
    with pytest.raises(SystemExit) as end:
        main([name, '--hel'])
    assert end.value.code == 2
