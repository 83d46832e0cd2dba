"""Which part of the package may import which: lower floors only, and never in a circle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[2]

# From the ground up, folders and modules of `pipeline`; of two entries that fit, the longer counts.
# A module imports from lower floors and from its own folder. So no stage knows another stage, the
# loop knows no settings, and outputs and scores know no model.
FLOORS = (
    ('arrays', 'data_sample', 'io.jpeg', 'resources', 'runtime', 'values'),
    ('config_messages', 'io.images'),
    ('config_file', 'keypoints', 'masks', 'rle'),
    ('boxes', 'keypoint_sets', 'logit_crops', 'scores', 'synthetic'),
    ('conversions', 'visualization'),
    ('structures',),
    ('candidates',),
    ('instances', 'io', 'nms', 'stages'),
    ('datasets', 'tracking', 'video', 'weights'),
    ('crowd', 'doctor', 'openmmlab'),
    ('evaluation',),
    ('report',),
    ('runtime.precision',),
    ('detectors', 'poses', 'segmenters'),
    ('loop', 'training'),
    ('config', 'registry'),
    ('build', 'training.launch'),
    ('api',),
    ('scale',),
    ('benchmark', 'web'),
    ('cli',),
    ('__main__',),
)
# `People.save` and `People.load` import this where used; the module builds `People`.
METHODS = {('pipeline.structures', 'pipeline.io.records')}
# The lazy names of the package itself may stand for anything; its version may be read anywhere.
PACKAGE, VERSION = 'pipeline', 'pipeline.__version__'


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    paths = {path.relative_to(ROOT).with_suffix(''): path for path in ROOT.glob('pipeline/**/*.py')}
    return {'.'.join(p.parts).removesuffix('.__init__'): path for p, path in paths.items()}


def names_in(path: Path) -> Iterator[str]:
    """Everything that a module imports, also inside functions and for types only."""
    package = path.relative_to(ROOT).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            stem = '.'.join([*base, *([node.module] if node.module else [])])
            yield from (f'{stem}.{alias.name}' for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith('import_module'):
            yield from (str(a.value) for a in node.args[:1] if isinstance(a, ast.Constant))


def arrows() -> dict[str, set[str]]:
    """Module -> the modules of ours that it imports; the package itself is left out."""
    known = modules()
    graph = {}
    for module, path in known.items():
        names = {name for name in names_in(path) if name.startswith(f'{PACKAGE}.')} - {VERSION}
        graph[module] = {n if n in known else n.rpartition('.')[0] for n in names} - {module}
    del graph[PACKAGE]
    for module, used in METHODS:
        graph[module].remove(used)
    return graph


def floor_of(module: str) -> tuple[int, str]:
    """Number of the floor, and the entry of the table."""
    short = module.removeprefix(f'{PACKAGE}.')
    fitting = [
        (len(entry), number, entry)
        for number, floor in enumerate(FLOORS)
        for entry in floor
        if f'{short}.'.startswith(f'{entry}.')
    ]
    assert fitting, f'{module} is on no floor'
    _, number, entry = max(fitting)
    return number, entry


def folder_of(module: str) -> str:
    """The folder of a module, or the module itself where it lies in none."""
    return module.split('.')[1]


def test_no_arrow_leads_up() -> None:
    wrong = []
    for module, imported in arrows().items():
        for other in imported:
            below = other != PACKAGE and floor_of(other) < floor_of(module)
            beside = floor_of(other) == floor_of(module) and folder_of(other) == folder_of(module)
            if not (below or beside):
                wrong.append((module, other))
    assert not wrong, sorted(wrong)


def test_no_circle() -> None:
    TopologicalSorter(arrows()).prepare()  # raises CycleError with the modules of the circle


def test_every_entry_of_the_table_is_there() -> None:
    graph = arrows()
    used = {floor_of(module)[1] for module in graph}
    assert used == {entry for floor in FLOORS for entry in floor}


def test_nothing_imports_the_tools() -> None:
    for path in modules().values():
        assert not [name for name in names_in(path) if name.split('.')[0] == 'tools'], path
