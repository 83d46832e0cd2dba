"""Trains a promptable person segmenter: python tools/train_sam.py CONFIG [--resume]."""

from __future__ import annotations

import argparse
import dataclasses
import logging
from pathlib import Path


def main() -> None:
    """Parses the command line and trains."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', type=Path, help='MMEngine Python config of values')
    parser.add_argument('--resume', action='store_true', help='go on from WORK_DIR/state.pt')
    parser.add_argument('--work-dir', help='replaces work_dir of the config')
    args = parser.parse_args()

    from pipeline.training.sam_config import load_train_config
    from pipeline.training.train_sam import train_sam

    config = load_train_config(args.config)
    if args.work_dir:
        config = dataclasses.replace(config, work_dir=args.work_dir)
    Path(config.work_dir).mkdir(parents=True, exist_ok=True)
    log_file = logging.FileHandler(Path(config.work_dir) / 'train.log')
    logging.basicConfig(
        level=logging.INFO,
        format='%(asctime)s %(message)s',
        handlers=[logging.StreamHandler(), log_file],
    )
    best = train_sam(config, resume=args.resume)
    print(f'best mean IoU {best:.3f}: {config.work_dir}/best.pt')


if __name__ == '__main__':
    main()
