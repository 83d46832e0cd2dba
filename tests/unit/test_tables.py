"""Texts in tables: no formulas in CSV, no markup in the terminal or in Markdown."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from pipeline.cli.score import report
from pipeline.evaluation.coco import score
from pipeline.io.results import ResultsInfo
from pipeline.io.tables import CsvWriter, escape_markdown, write_csv
from tests.toy_people import toy_annotations, toy_results

NAMES = ['=1+1', '+1', '-1', '@SUM(A1)', '\t=1', '\r=1', '=cmd|" /C calc"!A0']


@pytest.mark.parametrize('name', NAMES)
def test_a_text_is_no_formula(name: str, tmp_path: Path) -> None:
    write_csv(tmp_path / 'x.csv', [{'name': name, 'value': -1.5, 'none': None}])
    with (tmp_path / 'x.csv').open(newline='') as stream:
        assert list(csv.reader(stream))[1] == [f"'{name}", '-1.5', '']


@pytest.mark.parametrize('name', ['a\rb.jpg', 'a\r\nb.jpg', 'a\nb.jpg', 'a"b,c.jpg'])
def test_names_of_several_lines_stay_one_cell(name: str) -> None:
    stream = io.StringIO()
    CsvWriter(stream).writerow([name, 1])
    assert stream.getvalue().endswith('"' + ',1\n')
    assert list(csv.reader(io.StringIO(stream.getvalue(), newline=''))) == [[name, '1']]


def test_rows_with_other_keys_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='only some rows have b'):
        write_csv(tmp_path / 'x.csv', [{'a': 1}, {'b': 1}])


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('<img src=x onerror=y>', r'\<img src=x onerror=y\>'),
        ('[a](b)', r'\[a\](b)'),
        ('a|b `c` *d* _e_', r'a\|b \`c\` \*d\* \_e\_'),
        ('a\n\n# b', 'a # b'),
        ('&lt; ~~x~~ \\', r'\&lt; \~\~x\~\~ \\'),
        ('coco_val2017.json', 'coco_val2017.json'),
    ],
)
def test_markdown_is_text(text: str, expected: str) -> None:
    assert escape_markdown(text) == expected


@pytest.mark.parametrize('text', ['[/red]', '[bold]x[/]', '[link=http://x]y', ':smile:', '[on'])
def test_markup_in_provenance_is_text(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    info = ResultsInfo(
        'loop', text, False, ('bbox',), text, 'toy.json', '', text, '', {}, 'fp32', '1', (3, 7, 9)
    )
    rows = toy_results(tmp_path)
    report(score(rows, toy_annotations(), ['bbox'], info=info), None, tmp_path / 'scores.md')
    assert text in capsys.readouterr().out
    assert escape_markdown(text) in (tmp_path / 'scores.md').read_text()
