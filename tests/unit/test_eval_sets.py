from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipeline.datasets.catalog import CATALOG
from pipeline.datasets.eval_sets import DatasetError, find_data_root, resolve_dataset
from tests.toy_people import ROOT, toy_annotations, write


@pytest.fixture(autouse=True)
def no_data_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv('BMP_DATA', raising=False)


def lay_out(root: Path, name: str, which: int = 0) -> Path:
    """Folder and (empty) annotation file of a data set of the catalog."""
    entry = CATALOG[name]
    (root / entry.images).mkdir(parents=True, exist_ok=True)
    file = root / entry.annotations[which]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    return file


@pytest.mark.parametrize('name', CATALOG)
def test_catalog_layout_is_resolved(tmp_path: Path, name: str) -> None:
    file, entry = lay_out(tmp_path, name), CATALOG[name]
    found = resolve_dataset(name, tmp_path)
    assert (found.name, found.annotations, found.images) == (name, file, tmp_path / entry.images)
    assert found.tasks == entry.tasks
    assert (found.partial_ground_truth, found.notes) == (entry.partial_ground_truth, entry.notes)


def test_partial_ground_truth_is_noted() -> None:
    partial = {name for name, entry in CATALOG.items() if entry.partial_ground_truth}
    assert partial == {'ochuman_val', 'ochuman_test'}
    for name in partial:
        assert 'partial' in ' '.join(CATALOG[name].notes)


def test_official_crowdpose_file_name_is_accepted(tmp_path: Path) -> None:
    file = lay_out(tmp_path, 'crowdpose_test', which=1)
    assert resolve_dataset('crowdpose_test', tmp_path).annotations == file


def test_data_root_from_argument_variable_and_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_data_root() == Path('data')
    monkeypatch.setenv('BMP_DATA', str(tmp_path))
    assert find_data_root() == tmp_path
    assert find_data_root('elsewhere') == Path('elsewhere')
    lay_out(tmp_path, 'cihp_val')
    assert resolve_dataset('cihp_val').annotations.is_file()


@pytest.mark.parametrize('name', CATALOG)
def test_missing_files_are_reported_with_the_layout(tmp_path: Path, name: str) -> None:
    entry = CATALOG[name]
    with pytest.raises(DatasetError) as caught:
        resolve_dataset(name, tmp_path)
    paths = [str(tmp_path / path) for path in (entry.annotations[0], entry.images)]
    guide = f'docs/user_guide/datasets.md#{entry.anchor}'
    for part in (name, *paths, entry.homepage, guide, entry.convert or ''):
        assert part in str(caught.value)
    lay_out(tmp_path, name).unlink()
    with pytest.raises(DatasetError) as caught:
        resolve_dataset(name, tmp_path)
    first = str(caught.value).splitlines()[0]
    assert 'is missing' in first and paths[1] not in first


def data_set_page() -> str:
    """The page of the data sets, each command on one line."""
    text = (ROOT / 'docs' / 'user_guide' / 'datasets.md').read_text()
    return re.sub(r'\s*\\\n\s*', ' ', text)


def test_documentation_covers_every_data_set() -> None:
    text = data_set_page()
    parts = re.split(r'^## (.+)$', text, flags=re.MULTILINE)
    sections = {
        re.sub(r'[^\w\- ]', '', title).strip().lower().replace(' ', '-'): body
        for title, body in zip(parts[1::2], parts[2::2], strict=True)
    }
    for name, entry in CATALOG.items():
        for part in (f'`{name}`', entry.homepage, entry.convert or ''):
            assert part in sections[entry.anchor], (name, part)
        for part in (entry.annotations[-1].rsplit('/', 1)[1], Path(entry.images).name):
            assert part in text, (name, part)


def test_documented_commands_parse() -> None:
    from pipeline.cli import convert_dataset

    commands = re.findall(r'python tools/convert_dataset\.py ([^\n`]+)', data_set_page())
    assert len(commands) >= 5
    for command in commands:
        convert_dataset.build_parser().parse_args(command.split())


def test_unknown_name_suggests_a_similar_one() -> None:
    with pytest.raises(DatasetError, match=r"did you mean 'ochuman_val'\?.*coco_val2017"):
        resolve_dataset('ochuman-val')


@pytest.mark.parametrize(
    ('file', 'image'),
    [
        ('toy.json', '7.jpg'),
        ('toy.json', 'images/7.jpg'),
        ('annotations/toy.json', 'images/7.jpg'),
        ('annotations/toy.json', 'val2017/7.jpg'),
        ('annotations/toy.json', '7.jpg'),
    ],
)
def test_image_folder_of_a_coco_file_is_found(tmp_path: Path, file: str, image: str) -> None:
    for path in (tmp_path / file, tmp_path / image, tmp_path / 'other' / 'x.jpg'):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    write(tmp_path / file, toy_annotations())
    found = resolve_dataset(tmp_path / file)
    assert found.name == 'toy'
    assert found.images.resolve() == (tmp_path / image).parent.resolve()
    assert found.tasks == ('bbox', 'segm', 'keypoints')


def test_missing_images_and_invalid_file(tmp_path: Path) -> None:
    path = write(tmp_path / 'toy.json', toy_annotations())
    with pytest.raises(DatasetError, match=r'no image of this file \(such as 7\.jpg\).*--images'):
        resolve_dataset(path)
    (tmp_path / 'far').mkdir()
    assert resolve_dataset(path, images=tmp_path / 'far').images == tmp_path / 'far'
    with pytest.raises(DatasetError, match='nowhere does not exist'):
        resolve_dataset(path, images=tmp_path / 'nowhere')
    with pytest.raises(DatasetError, match=r'results\.json: not a COCO annotation file'):
        resolve_dataset(write(tmp_path / 'results.json', []))


def test_coco_file(samples: Path) -> None:
    found = resolve_dataset(samples / 'dev' / 'person_keypoints.json')
    assert found.images == samples / 'dev' / 'images'


def test_crowdpose_file(samples: Path) -> None:
    path = samples / 'test_samples/crowdpose/test_crowdpose.json'
    found = resolve_dataset(path)
    assert found.images == path.parent
