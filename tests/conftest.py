"""What the markers of pyproject.toml do, and what several modules of tests share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.web_server import Site


CHROMIUM = shutil.which('chromium') or shutil.which('chromium-browser')


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if CHROMIUM is None and not os.environ.get('BMP_REQUIRE_BROWSER'):
        reason = 'needs Chromium (Debian, Ubuntu: apt-get install chromium)'
        for item in items:
            if item.get_closest_marker('browser'):
                item.add_marker(pytest.mark.skip(reason=reason))
    gpu_items = [item for item in items if item.get_closest_marker('gpu')]
    if not gpu_items:
        return  # importing torch takes seconds
    import torch

    if not torch.cuda.is_available():
        for item in gpu_items:
            item.add_marker(pytest.mark.skip(reason='needs a CUDA device'))


@pytest.fixture
def plain_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing has its own tests."""
    from pipeline.structures import People

    monkeypatch.setattr(People, 'draw', lambda self, image, style: image)


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    """A folder with the images of `run_fakes`."""
    from tests.run_fakes import save_images

    return save_images(tmp_path / 'images')


SAMPLES = Path(os.environ.get('BMP_TEST_DATA', Path(__file__).parents[2] / 'shared' / 'data'))


@pytest.fixture(scope='session', params=['drawn', 'real'][: 1 + SAMPLES.is_dir()])
def samples(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a small sample of each public data set: drawn, and real where it is present."""
    from tests.sample_sets import draw_samples

    return draw_samples(tmp_path_factory.mktemp('samples')) if request.param == 'drawn' else SAMPLES


@pytest.fixture
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the person who runs the tests changes downloads."""
    for name in ('BMP_OFFLINE', 'HF_HUB_OFFLINE', 'BMP_MIRROR', 'HF_ENDPOINT', 'HF_TOKEN'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv('NO_PROXY', '127.0.0.1')
    monkeypatch.setenv('no_proxy', '127.0.0.1')


@pytest.fixture
def site() -> Iterator[Site]:
    """A web server on this machine."""
    from tests.web_server import running_site

    with running_site() as running:
        yield running


def scope_fixture(library: str) -> Callable[[], Iterator[None]]:
    """MMEngine's default scope is global: modules that use the fixture put the old one back."""

    @pytest.fixture(scope='module', name=f'{library}_scope')
    def scope() -> Iterator[None]:
        from mmengine.registry import DefaultScope

        with DefaultScope.overwrite_default_scope(library):
            yield

    return scope


mmengine_scope, mmdet_scope, mmpose_scope = map(scope_fixture, ('mmengine', 'mmdet', 'mmpose'))


@pytest.fixture(scope='session')
def one_thread() -> None:
    """Run small models on one thread, here and in child processes: faster, and to the same bits."""
    import torch

    torch.set_num_threads(1)
    os.environ['OMP_NUM_THREADS'] = '1'
