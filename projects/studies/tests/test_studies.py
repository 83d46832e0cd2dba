"""Studies of prompts and rounds: known results, and no part computed twice or lost."""

from __future__ import annotations

import csv
import dataclasses
import importlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from pipeline.datasets.eval_sets import resolve_dataset
from pipeline.evaluation.charts import chart_style
from pipeline.io.progress import Reporter
from pipeline.io.records import people_to_record
from pipeline.loop import LoopConfig, PersonPipeline
from pipeline.masks import LogitMasks, Masks
from pipeline.segmenters.prompts import METHODS, PromptConfig, make_prompts
from pipeline.structures import Detections, Image, MaskSource, Poses, Segments
from projects.studies.images import (
    Computed,
    Parts,
    StudyImage,
    compute_images,
    load_study_data,
    select_annotations,
)
from projects.studies.prompts import PromptStudy, compute_prompt_rows, make_prompt_settings
from projects.studies.rounds import (
    RoundStudy,
    compute_round_rows,
    make_round_settings,
    select_results,
)
from projects.studies.tools import study_prompts, study_rounds
from tests.commands import exit_code
from tests.oracles import OracleDetector, OraclePoses, OracleSegmenter
from tests.toy_people import coco, person, write
from tests.unit.test_loop import HIDDEN_BY, ground_truth, noise_image

PEOPLE = Path('dev', 'person_keypoints.json')

# --- rounds ---------------------------------------------------------------------------------------


def oracle_run(config: LoopConfig) -> PersonPipeline:
    """Five people in two stacks, three deep: round three finds the last."""
    detector = OracleDetector(ground_truth(), HIDDEN_BY)
    return PersonPipeline(
        detector, OraclePoses(ground_truth()), OracleSegmenter(ground_truth()), config
    )


def study_image(people: Any) -> StudyImage:
    return StudyImage('p.jpg', Path('p.jpg'), 5, people, ())


@pytest.mark.parametrize('refine', [False, True])
def test_rounds_equal_separate_runs(refine: bool) -> None:
    settings = make_round_settings(5, [refine])
    study = RoundStudy(oracle_run(LoopConfig(max_rounds=5, refine_min_side=60)))
    parts = study(noise_image(), study_image(ground_truth()), [s.name for s in settings])
    found = []
    for setting in settings:
        config = LoopConfig(max_rounds=setting.rounds, refine=refine, refine_min_side=60)
        people = oracle_run(config)(noise_image())
        assert parts[setting.name]['rows'] == people.to_coco(5)
        found.append(len(people))
    assert found == [2, 4, 5, 5, 5]


def test_seconds_are_cumulative() -> None:
    study = RoundStudy(oracle_run(LoopConfig(max_rounds=3)))
    parts = study(
        noise_image(), study_image(ground_truth()), ['1', '2', '3', '1-refined', '3-refined']
    )
    seconds = [parts[name]['seconds'] for name in ('1', '2', '3', '3-refined')]
    assert seconds == sorted(seconds) and seconds[0] > 0


def test_round_rows_by_hand() -> None:
    """Two, then four, then all of five people are detected exactly."""
    settings = make_round_settings(4, [False])
    study = RoundStudy(oracle_run(LoopConfig(max_rounds=4)))
    parts = {'p.jpg': study(noise_image(), study_image(ground_truth()), [s.name for s in settings])}
    rows = compute_round_rows(settings, parts, annotations_of_ground_truth(), ['bbox', 'segm'])
    assert [(r.rounds, r.task) for r in rows[:3]] == [(1, 'bbox'), (1, 'segm'), (2, 'bbox')]
    masks = [r for r in rows if r.task == 'segm']
    assert [r.num_results for r in masks] == [2, 4, 5, 5]
    assert {r.num_annotated for r in masks} == {5}
    assert [r.ar for r in masks] == pytest.approx([2 / 5, 4 / 5, 1, 1])
    assert [r.ap for r in masks] == pytest.approx([41 / 101, 81 / 101, 1, 1])
    assert len(select_results(settings[2], parts)) == 5


def annotations_of_ground_truth() -> dict[str, Any]:
    people = ground_truth()
    rows = [{**row, 'id': i + 1, 'iscrowd': 0} for i, row in enumerate(people.to_coco(5))]
    for row in rows:
        del row['score'], row['keypoints']
    height, width = people.image_shape
    image = {'id': 5, 'file_name': 'p.jpg', 'height': height, 'width': width}
    return coco([image], rows)


# --- prompts --------------------------------------------------------------------------------------


@dataclass
class HalvingSegmenter:
    """A prompt of k keypoints gives the left k fifths of the annotated mask, all from k = 5 on."""

    ground_truth: Any
    prompt: PromptConfig = field(default_factory=PromptConfig)
    embedded: list[int] = field(default_factory=list)
    decoded: list[int] = field(default_factory=list)

    def __call__(self, image: Image) -> Any:
        self.embedded.append(1)
        return _HalvedImage(self, self.prompt)


@dataclass
class _HalvedImage:
    segmenter: HalvingSegmenter
    prompt: PromptConfig

    def with_prompt(self, prompt: PromptConfig) -> _HalvedImage:
        return replace(self, prompt=prompt)

    def __call__(self, poses: Poses, others: Poses) -> Segments:
        self.segmenter.decoded.append(len(poses))
        prompts = make_prompts(poses, others, self.prompt)
        true, shape = self.segmenter.ground_truth, self.segmenter.ground_truth.image_shape
        masks = []
        for i, count in enumerate((prompts.keypoints >= 0).sum(1)):
            row = int(np.abs(true.boxes - poses.boxes[i]).sum(1).argmin())
            mask, (x1, _, x2, _) = true.masks.dense(row), true.boxes[row]
            mask[:, int(x1 + (x2 - x1) * min(count, 5) / 5) :] = False
            masks.append(mask)
        scores = np.linspace(0.9, 0.8, len(poses)).astype(np.float32)
        sources = np.full(len(poses), MaskSource.SAM, np.int32)
        soft = LogitMasks.from_masks(Masks.from_dense(masks, shape), 4.0)
        return Segments(soft, scores, sources, prompts.keypoints)


def prompted_data(tmp_path: Path) -> Path:
    """Two people with 15 visible keypoints, one without labels, and a crowd region."""
    nothing = {'keypoints': [0] * 51, 'num_keypoints': 0}
    rle = {'size': [200, 300], 'counts': [59000, 1000]}
    people = [
        person(1, 1, [10, 20, 50, 100]),
        person(2, 1, [100, 20, 50, 100]),
        person(3, 1, [200, 20, 50, 100], **nothing),
        person(4, 1, [290, 0, 10, 200], segmentation=rle, iscrowd=1, **nothing),
    ]
    (tmp_path / 'images').mkdir()
    PIL.Image.new('RGB', (300, 200), (90, 90, 90)).save(tmp_path / 'images' / '1.png')
    image = {'id': 1, 'file_name': '1.png', 'height': 200, 'width': 300}
    return write(tmp_path / 'truth.json', coco([image], people))


def prompt_parts(
    tmp_path: Path, numbers: Sequence[int], source: Any = 'ground_truth', methods: Any = METHODS
) -> tuple[list[Any], Any, HalvingSegmenter]:
    data = load_study_data(resolve_dataset(prompted_data(tmp_path)))
    people = data.images[0].ground_truth
    segmenter = HalvingSegmenter(people)
    detector = OracleDetector(people, np.full(3, -1), with_masks=False)
    run = PersonPipeline(detector, OraclePoses(people), segmenter)  # type: ignore[arg-type]
    settings = list(make_prompt_settings(methods, numbers))
    study = PromptStudy(run, PromptConfig(), source)
    computed = compute_images(
        data.images, tmp_path / 'kept', [s.name for s in settings], study,
        depends_on={}, reporter=Reporter(),
    )  # fmt: skip
    assert not computed.failures
    return settings, compute_prompt_rows(settings, data.images, computed.parts), segmenter


def test_prompt_rows_by_hand(tmp_path: Path) -> None:
    settings, rows, segmenter = prompt_parts(tmp_path, [1, 3, 4, 5, 17])
    assert len(rows) == len(settings) == 5 * len(METHODS)
    for row in rows:
        # Every method has at least 5 keypoints to choose from.
        fraction = min(row.num_keypoints, 5) / 5
        assert (row.num_people, row.num_prompted) == (2, 2)
        assert row.mean_iou == pytest.approx(fraction)
        # Both are found at the overlaps 0.50, 0.55, ... up to the fraction.
        assert row.mask_ap == pytest.approx(
            sum(t <= 20 * fraction + 1e-6 for t in range(10, 20)) / 10
        )
        assert row.mask_ap50 == float(fraction >= 0.5)
    by_name = {(r.method, r.num_keypoints): r for r in rows}
    # 17 keypoints, one unlabelled and one hidden; other methods keep one of nose and eyes.
    assert by_name['k_most_visible', 17].mean_points == 15
    assert by_name['closest', 17].mean_points == 14
    assert segmenter.embedded == [1]


def test_equal_prompts_are_decoded_once(tmp_path: Path) -> None:
    _, rows, segmenter = prompt_parts(tmp_path, [15, 16, 17], methods=['k_most_visible'])
    assert len({dataclasses.astuple(r)[3:] for r in rows}) == 1
    assert segmenter.decoded == [2]


def test_detected_people_are_prompted_with_predicted_keypoints(tmp_path: Path) -> None:
    _, rows, _ = prompt_parts(tmp_path, [5], 'detected', ['k_most_visible'])
    (row,) = rows
    # AP counts all three; the person without keypoints has no prompt and no mask.
    assert (row.num_people, row.num_prompted) == (3, 3)
    assert row.mean_iou == pytest.approx(2 / 3)
    assert row.mask_ap == pytest.approx(67 / 101)


def test_random_ties_change_the_keypoints_only(tmp_path: Path) -> None:
    data = load_study_data(resolve_dataset(prompted_data(tmp_path)))
    run = PersonPipeline(None, None, None)  # type: ignore[arg-type]

    def chosen(seed: int | None) -> list[list[int]]:
        study = PromptStudy(run, PromptConfig(), 'ground_truth', seed)
        poses = study._find_annotated(noise_image(), data.images[0]).poses
        keypoints = make_prompts(poses, poses.select(np.zeros(0, int)), PromptConfig()).keypoints
        return [row[row >= 0].tolist() for row in keypoints]

    assert chosen(None) == [[0, 2, 3], [0, 2, 3]]  # in the order of COCO, the hidden one left out
    assert chosen(1) == chosen(1) != chosen(2)
    assert chosen(1)[0] != chosen(1)[1] and all(len(row) == 3 for row in chosen(1))


@pytest.mark.parametrize('number', [0, 18])
def test_invalid_numbers_of_keypoints_are_named(number: int) -> None:
    with pytest.raises(ValueError, match=rf'k must be in \[1, 17\], got {number}'):
        list(make_prompt_settings(['closest'], [number]))


# --- what is kept ---------------------------------------------------------------------------------


@dataclass
class Counting:
    """Computes the name and the size of the image."""

    asked: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    stop_at: str = ''

    def __call__(self, image: Image, item: StudyImage, missing: Sequence[str]) -> Parts:
        if item.name == self.stop_at:
            raise KeyboardInterrupt
        self.asked.append((item.name, tuple(missing)))
        return {name: [item.name, name, *image.shape[:2]] for name in missing}


def kept_data(tmp_path: Path) -> tuple[StudyImage, ...]:
    images = []
    for number in (1, 2, 3):
        PIL.Image.new('RGB', (60, 40)).save(tmp_path / f'{number}.png')
        name = f'{number}.png'
        images.append({'id': number, 'file_name': name, 'height': 40, 'width': 60})
    people = [person(n, n, [5, 5, 20, 30]) for n in (1, 2, 3)]
    path = write(tmp_path / 'truth.json', coco(images, people))
    return load_study_data(resolve_dataset(path)).images


def compute(
    images: Sequence[StudyImage], folder: Path, wanted: Sequence[str], **key: Any
) -> tuple[Computed, Counting]:
    counting = Counting(stop_at=key.pop('stop_at', ''))
    done = compute_images(
        images, folder / 'kept', wanted, counting, depends_on=key, reporter=Reporter()
    )
    return done, counting


def test_only_missing_parts_are_computed(tmp_path: Path) -> None:
    images = kept_data(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        compute(images, tmp_path, ['a'], stop_at='3.png')
    done, counting = compute(images, tmp_path, ['a', 'b'])
    assert counting.asked == [('1.png', ('b',)), ('2.png', ('b',)), ('3.png', ('a', 'b'))]
    assert done.parts['1.png'] == {'a': ['1.png', 'a', 40, 60], 'b': ['1.png', 'b', 40, 60]}
    again, counting = compute(images, tmp_path, ['b'])
    assert counting.asked == [] and again.parts['1.png'] == {'b': ['1.png', 'b', 40, 60]}


def test_parts_of_another_provenance_are_not_used(tmp_path: Path) -> None:
    images = kept_data(tmp_path)
    compute(images, tmp_path, ['a'], config='x')
    PIL.Image.new('RGB', (60, 40), (9, 9, 9)).save(tmp_path / '2.png')
    (tmp_path / 'kept' / '3.png.json').write_text('{"made_with"')
    _, counting = compute(images, tmp_path, ['a'], config='x')
    assert [name for name, _ in counting.asked] == ['2.png', '3.png']
    _, counting = compute(images, tmp_path, ['a'], config='y')
    assert len(counting.asked) == 3


def test_failed_images_are_excluded_with_their_people(tmp_path: Path) -> None:
    images = kept_data(tmp_path)
    (tmp_path / '1.png').unlink()
    PIL.Image.new('RGB', (6, 4)).save(tmp_path / '2.png')
    done, _ = compute(images, tmp_path, ['a'])
    assert list(done.parts) == ['3.png']
    reasons = [f.describe() for f in done.failures]
    assert '1.png' in reasons[0] and 'the image is 6 x 4, the annotations say 60 x 40' in reasons[1]
    data = load_study_data(resolve_dataset(tmp_path / 'truth.json'))
    selected = select_annotations(data, done.parts)
    assert (
        [i['id'] for i in selected['images']]
        == [i['image_id'] for i in selected['annotations']]
        == [3]
    )


# --- the tools ------------------------------------------------------------------------------------

WRONG = [
    ('no config', ['nothing', '--data', 'truth.json'], "no pipeline config 'nothing'"),
    ('no data', ['bmp_compact', '--data', 'coco_val'], "did you mean 'coco_val2017'"),
    ('limit', ['bmp_compact', '--data', 'truth.json', '--limit', '0'], '--limit must be >= 1'),
    ('setting', ['bmp_compact', '--data', 'truth.json', '--cfg-options', 'loop.rounds=2'],
     "unknown setting 'loop.rounds'"),
]  # fmt: skip
WRONG_PROMPTS = [
    ('k', ['bmp_compact', '--data', 'truth.json', '--k', '0'], 'k must be in [1, 17], got 0'),
    ('ties', ['bmp_compact', '--data', 'truth.json', '--keypoints', 'detected', '--draw-ties', '1'],
     '--draw-ties requires --keypoints ground_truth'),
    ('no keypoints', ['bmp_compact', '--data', 'boxes.json'], 'no annotations for keypoints'),
]  # fmt: skip
WRONG_ROUNDS = [('rounds', ['bmp_compact', '--data', 'truth.json', '--rounds', '0'], '>= 1, got 0')]
CASES = [(study_prompts, *w) for w in WRONG + WRONG_PROMPTS]
CASES += [(study_rounds, *w) for w in WRONG + WRONG_ROUNDS]


@pytest.mark.parametrize(
    ('tool', 'args', 'reason'), [(c[0], *c[2:]) for c in CASES], ids=[c[1] for c in CASES]
)
def test_invalid_input_is_reported_before_models_load(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], tool: Any, args: list[str], reason: str
) -> None:
    content = json.loads(prompted_data(tmp_path).read_text())
    for row in content['annotations']:
        del row['keypoints'], row['num_keypoints']
    write(tmp_path / 'boxes.json', content)
    files = [str(tmp_path / a) if a.endswith('.json') else a for a in args]
    assert exit_code(tool.main, *files, '--out', tmp_path / 'out') == 2
    error = capsys.readouterr().err
    assert error.startswith(f'{Path(tool.__file__).name}: ') and reason in error


@pytest.mark.parametrize('tool', [study_prompts, study_rounds])
def test_study_without_valid_images_reports_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], tool: Any
) -> None:
    data = prompted_data(tmp_path)
    (tmp_path / 'images' / '1.png').write_bytes(b'not an image')
    args = ['bmp_compact', '--data', str(data), '--device', 'cpu', '--out', str(tmp_path / 'out')]
    assert exit_code(tool.main, *args) == 2
    assert 'no image was computed: ' in capsys.readouterr().err


def test_rounds_of_the_compact_models_equal_separate_runs(samples: Path, tmp_path: Path) -> None:
    """The compact models on real images: study, separate runs, resumed study."""
    from pipeline import load_pipeline
    from pipeline.io.images import read_image

    args = ['bmp_compact', '--data', str(samples / PEOPLE), '--limit', '4', '--device', 'cpu']
    out = tmp_path / 'rounds'
    assert study_rounds.main([*args, '--rounds', '2', '--out', str(out)]) == 0
    rows = list(csv.DictReader((out / 'rounds.csv').read_text().splitlines()))
    assert len(rows) == 2 * 2 * 3
    content = json.loads((samples / PEOPLE).read_text())
    for name, options in {
        '1': {'loop.max_rounds': 1},
        '2': {'loop.max_rounds': 2},
        '2-refined': {'loop.max_rounds': 2, 'loop.refine': True},
    }.items():
        # The study reports everyone, as average precision needs it.
        options |= {'runtime.device': 'cpu', 'loop.min_score': None}
        find = load_pipeline('bmp_compact', options)
        results = json.loads((out / f'results_{name}.json').read_text())
        for image in content['images'][:4]:
            people = find(read_image(samples / 'dev' / 'images' / image['file_name']))
            expected = people.to_coco(image['id'])
            assert [r for r in results if r['image_id'] == image['id']] == expected
    before = {p.name: p.read_bytes() for p in out.rglob('*') if p.is_file()}
    for rounds in ('1', '2'):  # fewer rounds need nothing new
        assert study_rounds.main([*args, '--rounds', rounds, '--out', str(out)]) == 0
    assert {p.name: p.read_bytes() for p in out.rglob('*') if p.is_file()} == before


def test_prompts_do_not_depend_on_the_order_of_computation(samples: Path, tmp_path: Path) -> None:
    """A resumed study gives the results of a single run."""
    args = ['bmp_compact', '--data', str(samples / PEOPLE), '--limit', '5', '--device', 'cpu']
    args += ['--methods', 'k_most_visible', 'closest']
    whole, steps = tmp_path / 'whole', tmp_path / 'steps'
    assert study_prompts.main([*args, '--k', '1', '3', '17', '--out', str(whole)]) == 0
    for k in ('17', '1', '3'):
        assert study_prompts.main([*args, '--k', k, '--out', str(steps)]) == 0
    assert study_prompts.main([*args, '--k', '1', '3', '17', '--out', str(steps)]) == 0
    texts = [(folder / 'prompts.csv').read_text() for folder in (whole, steps)]
    tables = [list(csv.DictReader(text.splitlines())) for text in texts]
    assert tables[0] == tables[1]
    assert [r['num_keypoints'] for r in tables[0]] == ['1', '3', '17'] * 2
    assert all(0 < float(r['mean_iou']) < 1 for r in tables[0])


def test_study_equals_the_gt_keypoints_protocol(
    samples: Path,
    tmp_path: Path,
) -> None:
    """The setting of the config equals ``tools/test.py --protocol gt_keypoints``."""
    from pipeline.evaluation.coco import score_files

    # The study leaves out people without a visible keypoint; the protocol counts them as missed.
    content = json.loads((samples / PEOPLE).read_text())
    content['annotations'] = [
        row
        for row in content['annotations']
        if 2 in row['keypoints'][2::3] or 1 not in row['keypoints'][2::3]
    ]
    data = write(tmp_path / 'people.json', content)
    args = ['bmp_compact', '--data', str(data), '--images', str(samples / PEOPLE.parent / 'images')]
    args += ['--limit', '6', '--device', 'cpu']
    prompts, out = tmp_path / 'prompts', tmp_path / 'test'
    settings = ['--k', '3', '--methods', 'distance+confidence', '--out', str(prompts)]
    assert study_prompts.main([*args, *settings]) == 0
    dataset_tool: Any = importlib.import_module('pipeline.cli.test')
    assert dataset_tool.main([*args, '--protocol', 'gt_keypoints', '--out-dir', str(out)]) == 0
    (row,) = csv.DictReader((prompts / 'prompts.csv').read_text().splitlines())
    metrics = score_files(out / 'results.json', data)
    assert metrics.mask_iou is not None
    assert float(row['mask_ap']) == pytest.approx(metrics.tasks['segm'].ap, abs=1e-9)
    assert float(row['mean_iou']) == pytest.approx(metrics.mask_iou.mean, abs=1e-6)
    assert int(row['num_people']) == metrics.num_people


def test_with_prompt_equals_a_new_embedding(samples: Path) -> None:
    from pipeline.build import build_pipeline
    from pipeline.config import load_config
    from pipeline.io.images import read_image

    data = load_study_data(resolve_dataset(samples / PEOPLE), 1)
    image = read_image(data.images[0].path)
    config = load_config('bmp_compact', {'runtime.device': 'cpu'})
    segmenter: Any = build_pipeline(config).run.segmenter
    other = replace(segmenter.prompt, num_keypoints=7, use_box=False)
    poses = data.images[0].ground_truth
    empty = poses.select(np.zeros(0, int))
    first = segmenter(image)
    before = first(poses, empty)
    changed = first.with_prompt(other)(poses, empty)
    after = first(poses, empty)
    segmenter.prompt = other
    fresh = segmenter(image)(poses, empty)
    for one, two, same in ((before, after, True), (changed, fresh, True), (before, fresh, False)):
        equal = one.logits.binary().to_rle() == two.logits.binary().to_rle()
        assert equal == same
    assert changed.prompts.tolist() == fresh.prompts.tolist()


def test_last_round_equals_the_run() -> None:
    """``__call__`` runs `PersonPipeline.iter_rounds`."""
    run = oracle_run(LoopConfig(max_rounds=None))
    states = [state for (state,) in run.iter_rounds([noise_image()])]
    assert [(s.round, len(s.people)) for s in states] == [(0, 0), (1, 2), (2, 4), (3, 5)]
    again = oracle_run(LoopConfig(max_rounds=None))(noise_image())
    people = states[-1].people
    people = people.select(np.argsort(-people.scores, kind='stable'))
    assert people_to_record(people) == people_to_record(again)


def test_user_boxes_replace_the_detector_in_round_one() -> None:
    run = oracle_run(LoopConfig(max_rounds=1))
    boxes = Detections.from_boxes(ground_truth().boxes[[0]], ground_truth().image_shape)
    _, (state,) = run.iter_rounds([noise_image()], [boxes])
    assert len(state.people) == 1


def curves(figure: Any) -> list[list[list[float]]]:
    return [line.get_xydata().tolist() for axes in figure.axes for line in axes.lines]


def test_charts_equal_their_tables(tmp_path: Path) -> None:
    _, rows, _ = prompt_parts(tmp_path, [1, 3, 5])
    with chart_style():
        facts = dict(config='c', data='d', keypoints='ground_truth', draw_ties=None, box=False)
        drawn = study_prompts.draw(rows, facts)
        expected = [
            [[r.num_keypoints, 100 * getattr(r, key)] for r in rows if r.method == method]
            for key in ('mask_ap', 'mean_iou')
            for method in METHODS
        ]
        assert curves(drawn) == expected
        assert [a.get_title() for a in drawn.axes] == [
            'mask AP (n=2 people)',
            'mean mask IoU (n=2 people)',
        ]
        settings = make_round_settings(3, [False, True])
        study = RoundStudy(oracle_run(LoopConfig(max_rounds=3)))
        parts = {
            'p.jpg': study(noise_image(), study_image(ground_truth()), [s.name for s in settings])
        }
        table = compute_round_rows(settings, parts, annotations_of_ground_truth(), ['segm'])
        facts = {'config': 'c', 'data': 'd', 'images': 1, 'device': 'cpu'}
        shown = curves(study_rounds.draw(table, facts))
        expected = [
            [[r.rounds, 100 * getattr(r, key)] for r in table if r.refine == refine]
            for refine in (False, True)
            for key in ('ap', 'ar')
        ]
        expected += [
            [[r.rounds, r.seconds_per_image] for r in table if r.refine == refine]
            for refine in (False, True)
        ]
        assert shown == expected
