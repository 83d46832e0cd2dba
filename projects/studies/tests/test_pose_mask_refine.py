"""The study of PoseMaskRefine: its configs, its tables."""

from __future__ import annotations

from pathlib import Path

from projects.studies.tools import study_pose_mask_refine as study


def test_strategies_of_the_study_differ_in_clicks_alone(tmp_path):
    args = study.build_parser().parse_args(['--work-dir', str(tmp_path), '--steps', '40'])
    configs = {name: study.study_config(name, 3, args) for name in study.STRATEGIES}
    clicks = {name: str(config.model.pop('clicks')) for name, config in configs.items()}
    others = set()
    for config in configs.values():
        work_dir = config.pop('work_dir')
        assert Path(work_dir).parent == tmp_path
        others.add(str(config.to_dict()))
    assert len(others) == 1
    assert len(set(clicks.values())) == len(clicks)
    assert "'keypoint_prob': 0.0" in clicks['uniform']


def result(strategy, seed, value):
    scores = {f'pose2seg/iou_{count}': value for count in study.COUNTS} | {'pose2seg/people': 37}
    return {'strategy': strategy, 'seed': seed, 'dev': scores, 'val': scores}


def test_tables_and_plot_hold_all_seeds(tmp_path, capsys):
    rows = [result('refine', 0, 0.4), result('refine', 1, 0.5), result('base', 0, 0.3)]
    for row in rows:
        file = study.find_result_file(tmp_path, row['strategy'], row['seed'])
        study_json(file, row)
    plot = tmp_path / 'plot.png'
    assert study.main(['--work-dir', str(tmp_path), '--report', str(plot)]) == 0
    printed = capsys.readouterr().out
    assert '| refine | 2 | 0.450 ± 0.050 |' in printed
    assert printed.index('| base | 1 | 0.300 |') < printed.index('| refine |')
    assert plot.stat().st_size > 5000


def study_json(path, row):
    import json

    path.write_text(json.dumps(row))


def test_nothing_to_report(tmp_path, capsys):
    assert study.main(['--work-dir', str(tmp_path), '--report', str(tmp_path / 'x.png')]) == 2
    assert 'no results in' in capsys.readouterr().err
