"""Count the parameters of every released model and compare them with published figures.

No weights are needed: the models are built from their configs, OpenMMLab's without memory.

Examples:
    python tools/count_parameters.py
    python tools/count_parameters.py PMPose-b-1.0.0 SAM-pose2seg_hiera_b+

Exit codes: 0 all counts equal the published ones, 1 one differs, 2 wrong arguments.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this checkout, installed or not

from projects.reference_parity.released_models import (
    RELEASED,
    Published,
    ReleasedModel,
    build_empty,
    count_parameters,
)
from tools.tables import print_table

COLUMNS = ('model', 'parameters, M (published)', 'parts, M (published)', 'source of published')


def build_parser() -> argparse.ArgumentParser:
    """Command line of this tool."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = ', '.join(model.name for model in RELEASED)
    parser.add_argument('models', nargs='*', metavar='MODEL', help=f'any of {names} (default: all)')
    return parser


def row_of(model: ReleasedModel, counts: dict[str, int]) -> tuple[str, str, str, str]:
    """The row of a model: name, total, parts, sources."""
    figures = {figure.part: figure for figure in model.published}
    cells = {part: _cell(count, figures.get(part)) for part, count in counts.items()}
    total = cells.pop('total')
    parts = ', '.join(f'{part} {cell}' for part, cell in cells.items())
    sources = dict.fromkeys(figure.source for figure in model.published)
    return model.name, total, parts, '; '.join(sources)


def _cell(count: int, figure: Published | None) -> str:
    text = f'{count / 1e6:.3f}'
    if figure is None:
        return text
    share = '' if figure.share == 1 else f' x {figure.share}'
    remark = ', nominal' if figure.is_nominal else '' if figure.agrees(count) else ', DIFFERS'
    return f'{text} ({figure.millions}{share}{remark})'


def differing_parts(model: ReleasedModel, counts: dict[str, int]) -> list[str]:
    """Parts whose count is not the published one; nominal figures are not compared."""
    figures = [figure for figure in model.published if not figure.is_nominal]
    return [figure.part for figure in figures if not figure.agrees(counts[figure.part])]


def main(argv: Sequence[str] | None = None) -> int:
    """Count, compare, print the table."""
    parser = build_parser()
    args = parser.parse_args(argv)
    known = {model.name: model for model in RELEASED}
    for name in args.models:
        if name not in known:
            parser.error(f'no model {name!r}; known: {", ".join(known)}')
    models = [known[name] for name in args.models or known]
    counts = [
        count_parameters(build_empty(model.kind, model.config), model.kind) for model in models
    ]
    print_table(COLUMNS, map(row_of, models, counts))
    wrong = [
        f'{model.name}: {part}'
        for model, count in zip(models, counts, strict=True)
        for part in differing_parts(model, count)
    ]
    if wrong:
        print(f'other than published: {", ".join(wrong)}', file=sys.stderr)
    return 1 if wrong else 0


if __name__ == '__main__':
    sys.exit(main())
