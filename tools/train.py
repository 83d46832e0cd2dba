"""Train a detector or a pose model with its library's own trainer (MMEngine Runner).

The config decides everything: model, data, schedule and the library that owns them
(`default_scope` is `mmdet` or `mmpose`). A stopped run goes on with the same command plus
`--resume`.

Example:
    python tools/train.py configs/compact/rtmdet-ins_compact_train.py
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Sequence
from pathlib import Path

SCOPES = ('mmdet', 'mmpose')


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line of this tool."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', type=Path, help='training config (MMEngine, Python file)')
    parser.add_argument(
        '--work-dir', type=Path, help='logs and checkpoints (default: `work_dir` of the config)'
    )
    parser.add_argument(
        '--resume', action='store_true', help='go on from the newest checkpoint of the work dir'
    )
    parser.add_argument('--threads', type=int, help='CPU threads (default: what torch chooses)')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        default=[],
        metavar='KEY=VALUE',
        help='values that replace those of the config, e.g. train_dataloader.batch_size=8',
    )
    return parser


def parse_overrides(pairs: Sequence[str]) -> dict[str, object]:
    """Turns `KEY=VALUE` words into a dict for `Config.merge_from_dict`.

    Args:
        pairs: words such as `model.backbone.widen_factor=0.25`.

    Returns:
        Dotted key -> value; a value is read as a Python literal, else kept as text.

    Raises:
        ValueError: if a word has no `=` or an empty key.
    """
    import ast

    overrides: dict[str, object] = {}
    for pair in pairs:
        key, separator, text = pair.partition('=')
        if not separator or not key:
            raise ValueError(f'--cfg-options got {pair!r}; write KEY=VALUE, e.g. randomness.seed=1')
        try:
            overrides[key] = ast.literal_eval(text)
        except (SyntaxError, ValueError):
            overrides[key] = text
    return overrides


def train(
    config_path: Path,
    *,
    work_dir: Path | None = None,
    resume: bool = False,
    overrides: dict[str, object] | None = None,
) -> None:
    """Runs the training that a config describes.

    Args:
        config_path: MMEngine config with `default_scope` `mmdet` or `mmpose`.
        work_dir: replaces the config's `work_dir`; default `work_dirs/<config name>`.
        resume: continue from the newest checkpoint in the work directory.
        overrides: dotted key -> value, merged into the config.

    Raises:
        FileNotFoundError: if the config is missing.
        ValueError: if the config's `default_scope` is not supported.
    """
    if not config_path.is_file():
        raise FileNotFoundError(
            f'no config at {config_path}; the training configs are configs/**/*_train.py'
        )
    from mmengine.config import Config
    from mmengine.runner import Runner

    config = Config.fromfile(config_path)
    if overrides:
        config.merge_from_dict(overrides)
    scope = config.get('default_scope')
    if scope not in SCOPES:
        raise ValueError(f'default_scope = {scope!r} in {config_path}; allowed: {SCOPES}')
    importlib.import_module(f'{scope}.utils').register_all_modules(init_default_scope=False)
    if work_dir is not None:
        config.work_dir = str(work_dir)
    elif config.get('work_dir') is None:
        config.work_dir = str(Path('work_dirs') / config_path.stem)
    config.resume = resume
    Runner.from_cfg(config).train()


def main(argv: Sequence[str] | None = None) -> None:
    """Parses the command line and trains; a wrong argument ends with a message, exit code 2."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.threads is not None:
        import torch

        torch.set_num_threads(args.threads)
    try:
        overrides = parse_overrides(args.cfg_options)
    except ValueError as error:
        parser.error(str(error))
    if not args.config.is_file():
        parser.error(f'no config at {args.config}; the training configs are configs/**/*_train.py')
    train(args.config, work_dir=args.work_dir, resume=args.resume, overrides=overrides)


if __name__ == '__main__':
    main()
