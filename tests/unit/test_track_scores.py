"""Scores of tracks: known answers, cases computed by hand, and the command."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.__main__ import main
from pipeline.cli.score_tracks import score_files
from pipeline.evaluation.track_files import TrackTask
from pipeline.evaluation.track_metrics import TrackScores
from pipeline.tracking.formats import POSETRACK_KEYPOINTS
from tests.conftest import SAMPLES

KNOWN = SAMPLES / 'video' / 'mot_metrics_known_answer' / 'TUD-Campus'
# Boxes of two people over four frames; IoU of a box moved by 5 of its 20 px: 15 / 25 = 0.6.
TRUTH = [(f, i, 100 * i, 10, 20, 40) for i in (1, 2) for f in (1, 2, 3, 4)]


def write_boxes(path: Path, rows: list[tuple[int, ...]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(''.join(','.join(map(str, row)) + ',1,-1,-1,-1\n' for row in rows))
    return path


def change(rows: list[tuple[int, ...]], frames: set[int], person: int, **new: int) -> Any:
    """Rows of a person in some frames with another id or a shift; a shift of -1 drops them."""
    changed = []
    for f, i, x, *rest in rows:
        hit = f in frames and i == person
        if not (hit and new.get('shift') == -1):
            changed.append((
                f, new.get('id', i) if hit else i, x + new.get('shift', 0) * hit, *rest,
            ))  # fmt: skip
    return changed


CASES = {
    # One switch among 8 true boxes; each id explains at most 2 + 4 of 8: IDF1 = 6 / 8.
    'switch': (change(TRUTH, {3, 4}, 1, id=9), 7 / 8, 6 / 8, (1, 0, 0, 0)),
    # The person is interrupted, and comes back under the same id: IDF1 = 2 * 7 / (8 + 7).
    'gap': (change(TRUTH, {2}, 1, shift=-1), 7 / 8, 14 / 15, (0, 1, 1, 0)),
    'far off': (change(TRUTH, {2}, 1, shift=50), 6 / 8, 7 / 8, (0, 1, 1, 1)),
    'near': (change(TRUTH, {1, 2, 3, 4}, 1, shift=5), 1.0, 1.0, (0, 0, 0, 0)),
    'other numbers': ([(f, i + 70, *rest) for f, i, *rest in TRUTH], 1.0, 1.0, (0, 0, 0, 0)),
    'nothing': ([], 0.0, 0.0, (0, 0, 8, 0)),
}


@pytest.mark.parametrize(('rows', 'mota', 'idf1', 'counts'), CASES.values(), ids=CASES)
def test_boxes_by_hand(
    rows: list[tuple[int, ...]], mota: float, idf1: float, counts: tuple[int, ...], tmp_path: Path
) -> None:
    truth = write_boxes(tmp_path / 'gt.txt', TRUTH)
    (scores,) = score_files(write_boxes(tmp_path / 'r.txt', rows), truth).values()
    assert (scores.mota, scores.idf1) == pytest.approx((mota, idf1))
    found = scores.switches, scores.fragments, scores.misses, scores.false_positives
    assert found == counts


def test_hota_by_hand(tmp_path: Path) -> None:
    """Perfect boxes with one switch: person 1 is covered by two tracks of two frames each."""
    truth = write_boxes(tmp_path / 'gt.txt', TRUTH)
    (scores,) = score_files(write_boxes(tmp_path / 'r.txt', CASES['switch'][0]), truth).values()
    association = (4 * 2 / 4 + 4 * 4 / 4) / 8  # TPA / (TPA + FNA + FPA), averaged over 8 matches
    assert (scores.deta, scores.assa) == pytest.approx((1, association))
    assert scores.hota == pytest.approx(np.sqrt(association))


@pytest.mark.skipif(not KNOWN.is_dir(), reason='the cases by hand cover a plain clone')
def test_known_answer() -> None:
    (scores,) = score_files(KNOWN / 'tracker.txt', KNOWN / 'gt.txt').values()
    expected = json.loads((KNOWN / 'expected.json').read_text())
    reference, other = expected['trackeval_1.3.0_no_preproc'], expected['motmetrics_1.4.0']
    names = ('HOTA', 'DetA', 'AssA', 'MOTA', 'IDSW', 'Frag', 'CLR_FN', 'CLR_FP')
    found = (
        scores.hota, scores.deta, scores.assa, scores.mota, scores.switches, scores.fragments,
        scores.misses, scores.false_positives,
    )  # fmt: skip
    assert found == pytest.approx([reference[name] for name in names], abs=1e-6)
    assert scores.idf1 == pytest.approx(other['idf1'], abs=1e-6)


def test_folders_are_combined(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Equal ids of two sequences are different people; the counts add up."""
    for name, case in (('a', 'switch'), ('b', 'far off')):
        write_boxes(tmp_path / 'gt' / name / 'gt' / 'gt.txt', TRUTH)
        write_boxes(tmp_path / 'results' / f'{name}.txt', CASES[case][0])
        (tmp_path / 'gt' / name / 'seqinfo.ini').write_text('[Sequence]\nseqLength=4\n')
    out = tmp_path / 'scores.json'
    arguments = [str(tmp_path / 'results'), str(tmp_path / 'gt'), '--json', str(out)]
    assert main(['score-tracks', *arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ['sequence', 'a', 'b', 'combined']
    assert lines[3].split()[4:] == ['81.2', '81.2', '1', '1', '1', '1']
    scores = json.loads(out.read_text())
    assert scores['combined']['mota'] == pytest.approx(1 - 3 / 16)
    assert scores['combined']['idf1'] == pytest.approx((6 + 7) / 16)


def test_masks_of_a_drawn_video(tmp_path: Path) -> None:
    """Every mask of one person but for the last frame, and another id from the middle on."""
    arguments = '--frames 8 --people 3 --size 160 120 --fps 5 --seed 3'.split()
    assert main(['draw-video', str(tmp_path / 'drawn'), *arguments]) == 0
    truth = tmp_path / 'drawn' / 'gt' / 'mots.txt'
    rows = [line.split(' ') for line in truth.read_text().splitlines()]
    person = next(r[1] for r in rows if sum(r[1] == s[1] for s in rows) == 8)
    kept = [r for r in rows if r[1] == person and int(r[0]) < 8]
    changed = [[r[0], r[1] if int(r[0]) < 4 else '2999', *r[2:]] for r in kept]
    (tmp_path / 'drawn.txt').write_text(''.join(' '.join(r) + '\n' for r in changed))
    scores = score_files(tmp_path / 'drawn.txt', tmp_path / 'drawn', 'masks')['drawn']
    assert (scores.switches, scores.misses) == (1, len(rows) - 7)
    assert scores.mota == pytest.approx((7 - 1) / len(rows))
    assert scores.idf1 == pytest.approx(2 * 4 / (len(rows) + 7))


def pose_file(path: Path, points: list[Any], ids: list[int], *, ears: bool = True) -> Path:
    """One person per entry of ``points`` (17, 3), in consecutive frames."""
    without = [n for n in range(17) if ears or n not in (3, 4)]
    images = [{'id': 100 + n, 'file_name': f'clip/{n:06d}.jpg'} for n in range(len(points))]
    people = [
        {
            'image_id': 100 + n, 'track_id': ids[n], 'bbox': [0, 0, 50, 100],
            'keypoints': np.array(rows, float)[without].ravel().tolist(),
        }
        for n, rows in enumerate(points)
    ]  # fmt: skip
    names = [POSETRACK_KEYPOINTS[n] for n in without]
    content = {'images': images, 'annotations': people, 'categories': [{'keypoints': names}]}
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize('ears', [True, False], ids=['17 keypoints', '15 keypoints'])
def test_poses_by_hand(ears: bool, tmp_path: Path) -> None:
    """Shoulders alone are labelled; they lie where their similarity is 0.6, then 0.4."""
    truth = np.zeros((17, 3))
    truth[5:7] = [[10, 20, 1], [40, 20, 1]]
    variance = (2 * 0.079) ** 2 * 0.53 * 50 * 100
    moved = [truth + np.array([np.sqrt(-2 * variance * np.log(s)), 0, 0]) for s in (0.6, 0.4, 1.0)]
    file = pose_file(tmp_path / 'gt.json', [truth] * 3, [0, 0, 0])
    found = pose_file(tmp_path / 'r.json', moved, [4, 4, 5], ears=ears)
    (scores,) = score_files(found, file, 'poses').values()
    assert (scores.misses, scores.false_positives, scores.switches) == (1, 1, 1)
    assert score_files(found, file, 'poses', 0.39)['gt'].misses == 0


def test_unlabelled_people_and_images_do_not_count(tmp_path: Path) -> None:
    truth = np.zeros((17, 3))
    labelled = truth + np.array([0, 0, 1])
    file = pose_file(tmp_path / 'gt.json', [labelled, truth], [0, 1])
    content = json.loads(file.read_text())
    content['images'].append({'id': 7, 'file_name': 'clip/000002.jpg', 'is_labeled': False})
    file.write_text(json.dumps(content))
    found = pose_file(tmp_path / 'r.json', [labelled, labelled, labelled], [1, 1, 1])
    (scores,) = score_files(found, file, 'poses').values()
    assert (scores.misses, scores.false_positives) == (0, 1)


WRONG: dict[str, tuple[str, str, TrackTask, str]] = {
    'twice': ('1,1,0,0,9,9\n1,1,5,5,9,9\n', '1,1,0,0,9,9\n', 'boxes', 'id 1 more than once'),
    'after the end': ('9,1,0,0,9,9\n', '1,1,0,0,9,9\n', 'boxes', 'frame 9 .* has 4 frames'),
    'masks': ('1,1,0,0,9,9\n', '', 'masks', 'is not a row "frame id class'),
    'poses': ('[]', '{"images": [], "annotations": []}', 'poses', 'not a PoseTrack18 file'),
}


@pytest.mark.parametrize(('results', 'truth', 'task', 'message'), WRONG.values(), ids=WRONG)
def test_wrong_files(
    results: str, truth: str, task: TrackTask, message: str, tmp_path: Path
) -> None:
    (tmp_path / 'gt.txt').write_text(truth)
    (tmp_path / 'r.txt').write_text(results)
    (tmp_path / 'seqinfo.ini').write_text('[Sequence]\nseqLength=4\n')
    with pytest.raises(ValueError, match=message):
        score_files(tmp_path / 'r.txt', tmp_path / 'gt.txt', task)


def test_a_missing_sequence_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in 'ab':
        write_boxes(tmp_path / 'gt' / name / 'gt' / 'gt.txt', TRUTH)
    write_boxes(tmp_path / 'results' / 'a.txt', TRUTH)
    with pytest.raises(SystemExit) as exit_:
        main(['score-tracks', str(tmp_path / 'results'), str(tmp_path / 'gt')])
    assert exit_.value.code == 2
    assert re.search(r'b\.txt: no such file', capsys.readouterr().err)


def test_scores_are_printed_in_order() -> None:
    text = str(TrackScores(0.5, 0.4, 0.3, 0.2, 0.1, 1, 2, 3, 4))
    assert text.startswith('hota 0.500') and text.endswith('false_positives 4')
