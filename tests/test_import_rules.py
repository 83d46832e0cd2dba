"""Who may import whom: a stage never imports another stage, nothing imports the tools."""

from __future__ import annotations

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / 'pipeline'
STAGES = {'detectors', 'poses', 'segmenters'}
HIGH = {'api', 'build', 'config', 'instances', 'loop'}


def imports_of(path: Path) -> set[str]:
    """First part below ``pipeline`` of everything that a module imports."""
    package = ('pipeline', *path.relative_to(PACKAGE).parts[:-1])
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            stem = '.'.join([*base, *([node.module] if node.module else [])])
            names = [stem] if node.module else [f'{stem}.{alias.name}' for alias in node.names]
        else:
            continue
        found |= {name.split('.')[1] for name in names if name.startswith('pipeline.')}
        found |= {'tools'} if any(name.split('.')[0] == 'tools' for name in names) else set()
    return found


def test_stages_know_nothing_of_each_other_or_of_the_loop() -> None:
    for path in PACKAGE.rglob('*.py'):
        part = path.relative_to(PACKAGE).parts[0]
        imported = imports_of(path)
        assert 'tools' not in imported, path
        if part in STAGES:
            assert not imported & ((STAGES - {part}) | HIGH), (path, imported)


def test_the_ground_floor_imports_nothing_of_the_rest() -> None:
    assert imports_of(PACKAGE / 'masks.py') == set()
    assert imports_of(PACKAGE / 'keypoints.py') == set()
    # `to_coco`, `to_data_sample` and `draw` are shortcuts that import when called.
    assert imports_of(PACKAGE / 'structures.py') <= {'masks', 'io', 'visualization'}


def test_output_code_knows_only_the_structures() -> None:
    allowed = {
        'structures',
        'masks',
        'keypoints',
        'boxes',
        'scores',
        'io',
        'runtime',
        'visualization',
        'evaluation',
        'datasets',
    }
    for part in ('visualization', 'evaluation'):
        for path in (PACKAGE / part).rglob('*.py'):
            assert imports_of(path) <= allowed, path
