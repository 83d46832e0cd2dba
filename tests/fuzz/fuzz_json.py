"""Seeded mutations of JSON files for every reader: python -m tests.fuzz.fuzz_json [SEED] [COUNT].

Every case must end in a result or in one line; anything else is printed with its file.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import random
import signal
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import PIL.Image

from pipeline.cli import compare_results, convert_dataset, score, test
from pipeline.io.annotations import load_boxes, load_image_ids
from pipeline.io.inputs import InputImage
from pipeline.io.records import people_to_record, read_record
from pipeline.structures import Detections
from tests.run_fakes import make_people
from tests.toy_people import toy_annotations, toy_results
from tests.unit.test_convert import native, native_person

SECONDS = 10
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 1.0, 0.5, 1e9, 1e300, -1e300, float('nan'), float('inf'),
    10**18, 2**63, 10**400, '', '0', '1', 'a\0b', '\ud800', '~nouser', '../../x', 'ä',
    "b'54'", 'o', 'PPP0', [], {}, [1], [[]], {'a': 1}, [None], 'person', [0, 0, 1e9, 1e9, 1, 1],
    'x' * 5000,
)  # fmt: skip


def spots(node: Any) -> Iterator[tuple[Any, Any]]:
    """Every container with a key in it."""
    keys = (
        list(node) if isinstance(node, dict) else range(len(node) if isinstance(node, list) else 0)
    )
    for key in keys:
        yield node, key
        yield from spots(node[key])


def mutate(content: Any, rng: random.Random) -> bytes:
    """Change one to three spots of a document, or its bytes."""
    content = copy.deepcopy(content)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        node, key = rng.choice(list(spots(content)) or [([content], 0)])
        kind = rng.randrange(6)
        if kind == 0:
            del node[key]
        elif kind == 1 and isinstance(node, list):
            node.append(copy.deepcopy(node[key]))
        elif kind == 2:
            other, at = rng.choice(list(spots(content)) or [([0], 0)])
            node[key] = copy.deepcopy(other[at])
        elif kind == 3 and isinstance(node[key], str):
            node[key] = node[key][: rng.randrange(len(node[key]) + 1)] + rng.choice('o0PY\0ä')
        else:
            node[key] = copy.deepcopy(rng.choice(VALUES))
    data = json.dumps(content).encode()
    kind = rng.randrange(20)
    if kind == 0:
        return data[: rng.randrange(len(data) + 1)]
    if kind == 1:
        at = rng.randrange(len(data) + 1)
        return data[:at] + rng.choice((b'\xff', b'[' * 100_000, b'9' * 5000, b',')) + data[at:]
    return data


def readers(folder: Path) -> dict[str, tuple[Any, Callable[[Path], Any]]]:
    """Reader -> its document, and a call with a file."""
    truth, rows = toy_annotations(), toy_results(folder)
    (folder / 'truth.json').write_text(json.dumps(truth))
    (folder / 'rows.json').write_text(json.dumps(rows))
    names = [image['file_name'] for image in truth['images']]
    for name in names:
        PIL.Image.new('RGB', (300, 200)).save(folder / name)
    images = [InputImage(folder / name, name, folder) for name in names]
    info = {
        'format': 'bbox-mask-pose-results/1', 'protocol': 'loop', 'protocol_text': 'x',
        'from_truth': False, 'tasks': ['bbox', 'segm', 'keypoints'], 'data_set': 'd',
        'annotations': str(folder / 'truth.json'), 'annotations_sha256': '0', 'config': 'c',
        'config_text': 't', 'weights': {'a': 'b'}, 'precision': 'fp32', 'version': '1',
        'image_ids': [7, 3, 9], 'failed': [], 'notes': ['n'],
    }  # fmt: skip
    out = folder / 'out'

    def boxes(path: Path) -> None:
        for rows in load_boxes(path, images).by_image.values():
            Detections.from_boxes(rows, (200, 300))

    def side_file(path: Path) -> int:
        (folder / 'side.json').write_bytes((folder / 'rows.json').read_bytes())
        path.replace(folder / 'side.info.json')
        return score.main([str(folder / 'side.json')])

    def ochuman(path: Path) -> int:
        words = ['ochuman', str(path), str(out / 'o.json'), '--overwrite']
        return convert_dataset.main(words)

    def oracle(path: Path) -> int:
        options = ['--protocol', 'oracle', '--no-resume', '--images', str(folder)]
        return test.main(
            ['bmp_compact', '--data', str(path), '--out-dir', str(out / 'test'), *options]
        )

    return {
        'boxes by name': ({name: [[1, 1, 50, 50]] for name in names}, boxes),
        'boxes, annotations': (truth, boxes),
        'boxes, results': (rows, boxes),
        'ids': (truth, lambda path: load_image_ids(path, images)),
        'score, results': (rows, lambda path: score.main([str(path), str(folder / 'truth.json')])),
        'score, annotations': (
            truth, lambda path: score.main([str(folder / 'rows.json'), str(path)])),
        'side file': (info, side_file),
        'compare': (rows, lambda path: compare_results.main(
            [str(path), str(folder / 'rows.json'), str(folder / 'truth.json'), '--out', str(out)])),
        'convert': (truth, lambda path: convert_dataset.main(
            ['coco', str(path), str(out / 'c.json'), '--overwrite'])),
        'convert, OCHuman': (native(_1=[native_person()], _2=[native_person()]), ochuman),
        'test': (truth, oracle),
        'record': (people_to_record(make_people(2)), read_record),
    }  # fmt: skip


def outcome(call: Callable[[Path], Any], path: Path) -> str:
    """Run a case: result, error, or the traceback."""

    def too_long(*_: object) -> None:
        raise TimeoutError(f'more than {SECONDS} s')

    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(SECONDS)
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            call(path)
        return 'result'
    except SystemExit as end:
        return 'error' if end.code in (1, 2) else f'exit {end.code}'
    except ValueError as error:
        known = type(error).__name__ in ('InputError', 'AnnotationError', 'BoxesError')
        return 'error' if known else traceback.format_exc()
    except Exception:  # noqa: BLE001 - this is what the campaign looks for
        return traceback.format_exc()
    finally:
        signal.alarm(0)


def main(seed: int = 0, count: int = 500) -> int:
    """Run ``count`` cases of every reader; returns the number of failures."""
    failures = 0
    with tempfile.TemporaryDirectory() as name:
        for reader, (document, call) in readers(Path(name)).items():
            rng, counts = random.Random(f'{seed} {reader}'), Counter[str]()
            for number in range(count):
                path = Path(name, 'case.json')
                data = mutate(document, rng)
                path.write_bytes(data)
                found = outcome(call, path)
                counts[found if found in ('result', 'error') else 'FAILURE'] += 1
                if found not in ('result', 'error'):
                    failures += 1
                    kept = Path(tempfile.gettempdir(), f'fuzz-{failures}.json')
                    kept.write_bytes(data)
                    print(f'{reader}, case {number}, {kept}:\n{found}')
            print(f'{reader}: {dict(counts)}', flush=True)
    return failures


if __name__ == '__main__':
    sys.exit(bool(main(*map(int, sys.argv[1:3]))))
