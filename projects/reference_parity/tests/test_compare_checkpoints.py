"""The tool that lists the different tensors of two files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from projects.reference_parity import compare_checkpoints
from projects.reference_parity.compare_checkpoints import compare, main, unexpected_keys

BASE = {'encoder.a': torch.ones(2), 'encoder.b': torch.ones(3), 'decoder.x.w': torch.zeros(2, 2)}


def changed(**values: torch.Tensor | None) -> dict[str, torch.Tensor]:
    """BASE with other tensors (dots written as __); None removes one."""
    state = BASE | {k.replace('__', '.'): v for k, v in values.items()}
    return {k: v for k, v in state.items() if v is not None}


def test_equal_states_differ_nowhere() -> None:
    rows = compare(BASE, changed())
    assert [(r.part, r.common, r.keys) for r in rows] == [('encoder', 2, ()), ('decoder', 1, ())]


@pytest.mark.parametrize(
    ('second', 'part', 'kind', 'keys'),
    [
        (changed(encoder__a=torch.tensor([1, 1.5])), 'encoder', 'different', ('encoder.a',)),
        (changed(encoder__a=torch.ones(1)), 'encoder', 'reshaped', ('encoder.a',)),
        (changed(encoder__b=None), 'encoder', 'only_first', ('encoder.b',)),
        (changed(head__b=torch.ones(1)), 'head', 'only_second', ('head.b',)),
    ],
)
def test_every_kind_of_difference_is_counted_in_its_part(
    second: dict[str, torch.Tensor], part: str, kind: str, keys: tuple[str, ...]
) -> None:
    rows = {row.part: row for row in compare(BASE, second)}
    assert getattr(rows[part], kind) == keys == rows[part].keys
    assert rows[part].largest == (0.5 if kind == 'different' else 0)
    assert all(not row.keys for name, row in rows.items() if name != part)


def test_nan_is_the_largest_difference() -> None:
    second = changed(encoder__a=torch.full((2,), torch.nan), encoder__b=torch.ones(3) * 9)
    assert compare(BASE, second)[0].largest != compare(BASE, second)[0].largest


def test_depth_splits_parts() -> None:
    assert [row.part for row in compare(BASE, BASE, 2)] == ['encoder.a', 'encoder.b', 'decoder.x']


def test_expected_prefixes_cover_whole_components() -> None:
    rows = compare(BASE, changed(encoder__a=torch.zeros(2), decoder__x__w=torch.ones(2, 2)))
    assert unexpected_keys(rows, None) == ['encoder.a', 'decoder.x.w']
    assert unexpected_keys(rows, ['encoder']) == ['decoder.x.w']
    assert unexpected_keys(rows, ['enc', 'decoder.x.w']) == ['encoder.a']


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """The same weights but for the decoder, in the two layouts."""
    torch.save({'model': BASE}, tmp_path / 'sam.pt')
    torch.save({'state_dict': changed(decoder__x__w=torch.ones(2, 2))}, tmp_path / 'mm.pth')
    return str(tmp_path / 'sam.pt'), str(tmp_path / 'mm.pth')


def test_the_exit_code_tells(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    first, second = files
    assert main([first, first]) == 0
    assert main([first, second]) == 1
    assert main([first, second, '--expect', 'decoder', '--keys']) == 0
    assert 'only where expected' in capsys.readouterr().out
    assert main([first, second, '--expect', 'encoder']) == 1
    assert '1 tensors differ outside encoder: decoder.x.w' in capsys.readouterr().out


def test_a_file_that_holds_no_weights_is_named(
    tmp_path: Path, files: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({'epoch': 1}, tmp_path / 'none.pth')
    assert main([files[0], str(tmp_path / 'none.pth')]) == 2
    assert 'none.pth' in capsys.readouterr().err
    assert main([files[0], str(tmp_path / 'absent.pth')]) == 2
    with pytest.raises(SystemExit):
        compare_checkpoints.main([*files, '--depth', '0'])
