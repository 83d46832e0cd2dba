"""The page itself: components of Gradio and what they call.

Gradio serves an API of the same functions; `docs/user_guide/demo.md` has a client.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import Any

os.environ['GRADIO_ANALYTICS_ENABLED'] = 'False'  # before the import, which reads it

import gradio as gr
import numpy as np

from ..io.images import read_image
from ..structures import Image
from ..video.reader import VideoReadError
from ..visualization.style import LABELS, LAYERS, DrawingStyle, Layer
from . import session
from .session import Found

QUEUE = 16  # waiting jobs
HEADS = ['person', 'score', 'round', 'mask of', 'mask px']
# The theme must not load fonts from another host.
FONTS = ['system-ui', 'sans-serif']
CSS = """
.gradio-container { max-width: 1500px !important; margin: auto; }
footer { display: none !important; }
/* Contrast of at least 4.5:1 for small text. */
body:not(.dark) .gradio-container { --body-text-color-subdued: #52525b;
  --block-info-text-color: #52525b; --block-label-text-color: #3f3f46;
  --block-title-text-color: #3f3f46; --color-accent: #1d4ed8; --primary-500: #1d4ed8;
  --button-primary-background-fill: #1d4ed8; }
"""


@contextmanager
def shown_errors() -> Iterator[None]:
    """Show the errors of the user's files on the page, as text."""
    try:
        yield
    except (ValueError, VideoReadError, OSError) as error:
        raise gr.Error(escape(str(error)), print_exception=False) from error


class Page:
    """Components, and the functions behind them.

    Args:
        pipelines: Names of the configs to choose from.
        device: Where the models run; None: as the config says.
        examples: Paths of images.
    """

    def __init__(self, pipelines: list[str], device: str | None, examples: list[str]) -> None:
        self._device = device
        self._folder = Path(tempfile.mkdtemp(prefix='bmp-demo-'))
        with gr.Blocks(
            title='BBox-Mask-Pose', analytics_enabled=False, delete_cache=(600, 3600)
        ) as self.blocks:
            gr.Markdown('# BBox-Mask-Pose\nFind every person in an image or a short video.')
            with gr.Accordion('Models', open=True), gr.Row():
                self.config = gr.Dropdown(pipelines, value=pipelines[0], label='Pipeline')
                self.rounds = gr.Slider(1, 6, 2, step=1, label='Maximum rounds')
                self.slices = gr.Radio(['off', '2x2', '3x2'], value='off', label='Slices')
                self.refine = gr.Checkbox(False, label='Refine poses with the masks')
            self.models = [self.config, self.rounds, self.refine, self.slices]
            with gr.Accordion('Drawing', open=True), gr.Row():
                self.layers = gr.CheckboxGroup(
                    [*LAYERS], value=[*LAYERS], label='Layers', elem_id='layers'
                )
                self.labels = gr.Radio([*LABELS], value='id', label='Labels')
            with gr.Tab('Image'):
                self._add_image(examples)
            with gr.Tab('Video'):
                self._add_video()
            self.blocks.unload(self._forget)
            self.blocks.queue(max_size=QUEUE, default_concurrency_limit=1)

    def _add_image(self, examples: list[str]) -> None:
        found = gr.State(None, time_to_live=3600)
        corner = gr.State(None)
        with gr.Row():
            with gr.Column():
                image = gr.Image(
                    type='filepath', sources=['upload', 'webcam', 'clipboard'], label='Image',
                    elem_id='image',
                )  # fmt: skip
                gr.Examples(
                    examples, image, label='Examples',
                    example_labels=[Path(example).stem for example in examples],
                )  # fmt: skip
                boxes = gr.Textbox(
                    label='Own boxes, one per line: x1 y1 x2 y2', lines=2,
                    info='Or click two opposite corners on the image. Empty: the detector.',
                )  # fmt: skip
                with gr.Row():
                    run = gr.Button('Find people', variant='primary', elem_id='run')
                    stop = gr.Button('Cancel')
            with gr.Column():
                drawn = gr.Image(
                    label='People', interactive=False, format='png', buttons=['fullscreen'],
                    elem_id='drawn',
                )  # fmt: skip
                facts = gr.Textbox(label='Crowd', interactive=False, elem_id='facts')
                with gr.Row():
                    score = gr.Slider(0, 1, 0.3, step=0.01, label='Minimum score')
                    last = gr.Slider(1, 6, 6, step=1, label='People found up to round')
                person = gr.Dropdown(
                    [], label='Person', info='Or click a person.', elem_id='person'
                )
        with gr.Row():
            table = gr.Dataframe(headers=HEADS, label='People', interactive=False, wrap=True)
            crops = gr.Gallery(label='Person and mask', columns=2, height=260, object_fit='contain')
            scores = gr.JSON(label='Scores of the person')
        with gr.Row():
            make = gr.Button('Make files: JSON, COCO, CSV, PNG, report')
            files = gr.Files(label='Files', interactive=False, elem_id='files')
        with gr.Accordion('People as COCO rows', open=False):
            rows = gr.JSON(label='Rows')
        shown = [found, score, last, self.layers, self.labels]
        views = [drawn, facts, table, person]
        job = run.click(
            self._find, [image, boxes, *self.models], [found, score, rows], api_name='find_people',
            concurrency_id='models', concurrency_limit=1, trigger_mode='once',
        )  # fmt: skip
        job.then(self._show, shown, views, api_visibility='private')
        stop.click(None, cancels=[job], api_visibility='private')
        for control in (score, last, self.layers, self.labels):
            control.change(
                self._show, shown, views, api_visibility='private', show_progress='hidden',
                trigger_mode='always_last',
            )  # fmt: skip
        image.select(self._add_corner, [boxes, corner], [boxes, corner], api_visibility='private')
        image.change(lambda: ('', None), None, [boxes, corner], api_visibility='private')
        chosen = [found, score, last]
        drawn.select(self._click, chosen, person, api_visibility='private')
        person.change(self._choose, [*chosen, person], [crops, scores], api_visibility='private')
        make.click(self._write, shown, files, api_visibility='private')

    def _add_video(self) -> None:
        with gr.Row():
            with gr.Column():
                video = gr.Video(label=f'Video, up to {session.MAX_SECONDS} s', elem_id='video')
                every = gr.Slider(1, 10, 2, step=1, label='Detect in every n-th frame')
                with gr.Row():
                    run = gr.Button('Follow people', variant='primary', elem_id='follow')
                    stop = gr.Button('Cancel', elem_id='cancel')
            with gr.Column():
                progress = gr.Textbox(label='Progress', interactive=False, elem_id='progress')
                drawn = gr.Video(label='People', interactive=False)
                files = gr.Files(label='Files', interactive=False, elem_id='video-files')
        job = run.click(
            self._follow, [video, every, *self.models, self.layers, self.labels],
            [progress, drawn, files], api_name='follow_people', concurrency_id='models',
            concurrency_limit=1, trigger_mode='once',
        )  # fmt: skip
        stop.click(lambda: 'cancelled', None, progress, cancels=[job], api_visibility='private')

    def _find(
        self, path: str | None, boxes: str, config: str, rounds: int, refine: bool, slices: str
    ) -> tuple[Found, float, list[dict[str, Any]]]:
        if path is None:
            raise gr.Error('choose an image first', print_exception=False)
        with shown_errors():
            pipeline = session.get_pipeline(config, self._device, int(rounds), refine, slices)
            found = session.find_people(pipeline, Path(path), boxes)
        score = found.min_score or 0.0
        return found, score, found.keep(score, int(rounds)).to_coco()

    def _show(
        self, found: Found | None, score: float, last: int, layers: list[Layer], labels: Any
    ) -> tuple[Image | None, str, list[list[Any]], Any]:
        if found is None:
            return None, '', [], gr.Dropdown(choices=[], value=None)
        people = found.keep(score, last)
        drawn = people.draw(read_image(found.path), style_of(layers, labels))
        rows = [
            [row['person_id'], row['score'], row['round'], row['mask_source'], row['area']]
            for row in people.to_coco()
        ]
        choices = [(f'person {i + 1}', i) for i in range(len(people))]
        text = session.describe_crowd(found, people)
        return drawn, text, rows, gr.Dropdown(choices=choices, value=None)

    def _add_corner(self, boxes: str, corner: Any, event: gr.SelectData) -> tuple[str, Any]:
        point = [round(v) for v in event.index]
        if corner is None:
            return boxes, point
        low, high = np.minimum(corner, point).tolist(), np.maximum(corner, point).tolist()
        line = ' '.join(map(str, low + high))
        return f'{boxes.rstrip()}\n{line}'.strip(), None

    def _click(self, found: Found | None, score: float, last: int, event: gr.SelectData) -> Any:
        return None if found is None else session.find_person(found.keep(score, last), *event.index)

    def _choose(
        self, found: Found | None, score: float, last: int, person: int | None
    ) -> tuple[list[Image], Any]:
        people = None if found is None else found.keep(score, last)
        if found is None or people is None or person is None or person >= len(people):
            return [], None
        image = read_image(found.path)
        return session.cut_person(image, people, person), session.describe_person(people, person)

    def _write(
        self, found: Found | None, score: float, last: int, layers: list[Layer], labels: Any,
        request: gr.Request,
    ) -> list[str]:  # fmt: skip
        if found is None:
            raise gr.Error('find people first', print_exception=False)
        people, side = found.keep(score, last), found.side(score, last)
        out = self._session_folder(request)
        return session.write_files(found, people, side, style_of(layers, labels), out)

    def _follow(
        self, path: str | None, every: int, config: str, rounds: int, refine: bool, slices: str,
        layers: list[Layer], labels: Any, request: gr.Request,
    ) -> Iterator[tuple[str, str | None, list[str]]]:  # fmt: skip
        if path is None:
            raise gr.Error('choose a video first', print_exception=False)
        with shown_errors():
            pipeline = session.get_pipeline(config, self._device, int(rounds), refine, slices)
            out = self._session_folder(request)
            style = style_of(layers, labels)
            for part, text, files in session.follow_people(
                pipeline, Path(path), out, style, int(every)
            ):
                yield f'{100 * part:.0f} %: {text}', files[0] if files else None, files

    def _session_folder(self, request: gr.Request) -> Path:
        """An empty folder for the files of a visitor; the last ones are removed."""
        name = ''.join(c for c in str(request.session_hash) if c.isalnum()) or 'api'
        folder = self._folder / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def _forget(self, request: gr.Request) -> None:
        shutil.rmtree(self._session_folder(request), ignore_errors=True)

    def launch(self, port: int | None, *, block: bool = True) -> str:
        """Serve the page on this computer alone; returns its address."""
        theme = gr.themes.Base(font=FONTS, font_mono=['monospace'])
        try:
            _, address, _ = self.blocks.launch(
                server_name='127.0.0.1', server_port=port, share=False, quiet=True, theme=theme,
                css=CSS, footer_links=[], max_file_size='500mb', state_session_capacity=16,
                prevent_thread_lock=not block, enable_monitoring=False, ssr_mode=False,
                run_history=False,
            )  # fmt: skip
            return str(address)
        finally:
            if block:
                self.close()

    def close(self) -> None:
        """Stop the server and remove the files."""
        self.blocks.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def style_of(layers: list[Layer], labels: Any) -> DrawingStyle:
    """Style of the controls; `LAYERS` has the order."""
    return DrawingStyle(tuple(layer for layer in LAYERS if layer in layers), labels)
