"""The page of `bmp demo` in Chromium, and its API, with the embedded models."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import PIL.Image
import pytest

from pipeline.cli.demo import demo_inputs
from pipeline.cli.web import find_port
from pipeline.io.images import read_image
from pipeline.web import session
from tests.browser.conftest import find_faults
from tests.video_files import numbered, write_video

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser
WAIT = 120_000  # ms
# Of Gradio's own components: a label on a div without a role.
KNOWN = ('aria-prohibited-attr',)
OPTIONS = ('bmp_compact', 1, False, 'off')


@pytest.fixture(scope='module')
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    from pipeline.web import page

    examples = demo_inputs(tmp_path_factory.mktemp('examples'))
    served = page.Page(session.list_pipelines(), 'cpu', examples)
    yield served.launch(find_port(7890), block=False)
    served.close()


@pytest.fixture(scope='module')
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(demo_inputs(tmp_path_factory.mktemp('crowd'))[-1])


def find(page: Page, image: Path) -> None:
    page.set_input_files('#image input[type=file]', str(image))
    page.wait_for_selector('#image img')
    page.click('#run')


def test_image(address: str, crowd: Path, open_page: Callable[..., Page]) -> None:
    page = open_page(address)
    page.wait_for_selector('#run')
    faults = [fault for fault in find_faults(page) if not fault.startswith(KNOWN)]
    assert not faults, faults
    find(page, crowd)
    drawn = page.locator('#drawn img').first
    drawn.wait_for(timeout=WAIT)
    before = drawn.get_attribute('src')
    page.locator('#layers label', has_text='masks').click()
    page.wait_for_function('old => document.querySelector("#drawn img").src !== old', arg=before)
    page.locator('#person input').click()
    page.get_by_role('option', name='person 1', exact=True).click()
    page.wait_for_selector('text=detector_bbox', timeout=WAIT)
    page.get_by_role('button', name='Make files').click()
    page.wait_for_selector('#files a', timeout=WAIT)
    links = page.locator('#files a').evaluate_all('nodes => nodes.map(n => n.href)')
    names = ('people.json', 'coco_results.json', 'people.csv', 'overlay.png', 'report.html')
    for name in names:
        (link,) = {link for link in links if link.endswith(f'/{name}')}
        content = page.request.get(link).body()
        assert 100 < len(content) < 2e6, name


@pytest.mark.parametrize('kind', ['large', 'broken'])
def test_refused_images(
    kind: str, address: str, crowd: Path, open_page: Callable[..., Page], tmp_path: Path
) -> None:
    path = tmp_path / 'image.png'
    if kind == 'large':
        PIL.Image.new('1', (10_000, 10_000)).save(path)
    else:
        path.write_bytes(crowd.read_bytes()[:3000])
    from gradio_client import Client, handle_file

    reason = {'large': '100 megapixels', 'broken': 'cannot be read'}[kind]
    client = Client(address, verbose=False)
    with pytest.raises(Exception, match=reason):
        client.predict(handle_file(str(path)), '', *OPTIONS, api_name='/find_people')
    page = open_page(address)  # the page goes on
    page.wait_for_selector('#run')
    find(page, crowd)
    page.wait_for_selector('#drawn img', timeout=WAIT)


def test_video_is_followed_and_cancelled(
    address: str, open_page: Callable[..., Page], tmp_path: Path
) -> None:
    path = tmp_path / 'clip.mp4'
    write_video(path, [numbered(i % 10, 96, 128) for i in range(40)])
    text = "document.querySelector('#progress textarea').value"

    def follow() -> Page:
        page = open_page(address)
        page.wait_for_selector('#run')
        page.get_by_role('tab', name='Video').click()
        page.set_input_files('#video input[type=file]', str(path))
        page.wait_for_selector('#video video', timeout=WAIT)
        page.click('#follow')
        page.wait_for_function(f"{text}.includes('frames')", timeout=WAIT)
        return page

    page = follow()
    page.click('#cancel')
    page.wait_for_function(f"{text} === 'cancelled'", timeout=WAIT)
    page = follow()  # the next visitor does not wait for the cancelled job
    page.wait_for_function(f"{text}.startsWith('100 %')", timeout=WAIT)
    page.wait_for_selector('#video-files a', timeout=WAIT)


def test_videos_that_are_refused(tmp_path: Path) -> None:
    pipeline = session.get_pipeline('bmp_compact', 'cpu', 1, False, 'off')
    style, broken = session.DrawingStyle(), tmp_path / 'broken.mp4'
    broken.write_bytes(b'no video')
    long = tmp_path / 'long.mp4'
    write_video(long, [numbered(0, 16, 16)] * 700)
    for path, reason in ((broken, 'no video that can be read'), (long, 'has 70 seconds')):
        with pytest.raises(session.RefusedError, match=reason):
            next(session.follow_people(pipeline, path, tmp_path, style, 1))


def test_api(address: str, crowd: Path) -> None:
    from gradio_client import Client, handle_file

    client, image = Client(address, verbose=False), handle_file(str(crowd))
    *_, rows = client.predict(image, '', *OPTIONS, api_name='/find_people')
    assert rows and {'bbox', 'keypoints', 'segmentation', 'score'} <= set(rows[0])
    *_, own = client.predict(image, '480 130 630 620', *OPTIONS, api_name='/find_people')
    assert len(own) <= 1
    with pytest.raises(Exception, match='four numbers'):
        client.predict(image, '1 2 3', *OPTIONS, api_name='/find_people')


def test_what_the_page_computes(crowd: Path) -> None:
    pipeline = session.get_pipeline('bmp_compact', 'cpu', 2, False, 'off')
    found = session.find_people(pipeline, crowd, '')
    assert found.min_score is not None
    people = found.keep(found.min_score, 2)
    assert people.scores.tolist() == pipeline(crowd).scores.tolist()
    assert len(found.keep(0, 1)) <= len(found.keep(0, 2)) == len(found.candidates.people)
    for i in range(len(people)):
        y, x = np.argwhere(people.masks.dense(i))[0]
        assert session.find_person(people, float(x), float(y)) == i
    assert session.find_person(people, 1, 1) is None
    crop, alone = session.cut_person(read_image(crowd), people, 0)
    assert crop.shape == alone.shape and (alone == 235).any()
    side = found.side(0, 2)
    assert side.raw is not None and len(side.raw) == len(side.people)
    for text, boxes in (('', None), ('1 2 3 4\n\n5,6,7,8', [[1, 2, 3, 4], [5, 6, 7, 8]])):
        assert session.parse_boxes(text) == boxes
    for wrong in ('1 2 3', 'a b c d', '1 2 3 4 5'):
        with pytest.raises(session.RefusedError, match='four numbers'):
            session.parse_boxes(wrong)
