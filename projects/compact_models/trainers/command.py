"""The command line that all trainers share."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import cv2
import torch
from torch import nn

from .loop import Settings, Task, has_bfloat16, train


def make_parser(doc: str | None, config: Path, **defaults: Any) -> argparse.ArgumentParser:
    """Parser with the options of all trainers.

    Args:
        doc: docstring of the command.
        config: of the model.
        **defaults: other defaults of `Settings`.
    """
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('--data', type=Path, required=True, help='folder with annotations.json and its images')
    add('--dev', type=Path, help='COCO file for more figures, beside its images/')
    add('--config', type=Path, default=config, help='of the model')
    add('--init', type=Path, help='first weights (default: random)')
    add('--evaluate', type=Path, help='print the figures of these weights, train nothing')
    add('--max-images', type=int, help='read only so many images; for tests')
    add('--nice', type=int, default=0, help='lower the priority by this')
    values = {f.name: defaults.get(f.name, f.default) for f in fields(Settings)}
    add = parser.add_argument_group('training').add_argument
    add('--work-dir', type=Path, help='checkpoint, weights and log; resumes what is there')
    add('--restart', action='store_true', help='do not resume')
    add('--samples', type=int, default=values['samples'], help='length (default: %(default)s)')
    add('--minutes', type=float, help='length in minutes of training instead')
    add('--stop-minutes', type=float, help='stop after this time; the same command resumes')
    add('--batch-size', type=int, default=values['batch_size'], help='(default: %(default)s)')
    add('--workers', type=int, default=os.cpu_count() or 1, help='threads (default: %(default)s)')
    add('--lr', type=float, default=values['lr'], help='highest rate (default: %(default)s)')
    add('--float32', dest='bfloat16', action='store_false', default=has_bfloat16(),
        help='do not use bfloat16 (the default if the processor lacks it)')  # fmt: skip
    add('--evaluate-samples', type=int, default=values['evaluate_samples'],
        help='evaluate each time after so many samples (default: %(default)s)')  # fmt: skip
    add('--seed', type=int, default=0, help='of all random numbers')
    return parser


def read_settings(args: argparse.Namespace) -> Settings:
    """Settings of a run from the options."""
    names = [field.name for field in fields(Settings) if hasattr(args, field.name)]
    return Settings(**{name: getattr(args, name) for name in names})


def prepare_process(nice: int = 0) -> None:
    """One thread per library call (`train` runs calls in parallel instead), lower priority."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    if nice:
        os.nice(nice)


def run(
    args: argparse.Namespace,
    *,
    sets: Mapping[str, Any],
    build_model: Callable[[Path, Path | None], nn.Module],
    make_task: Callable[[], Task],
    evaluate: Callable[[nn.Module, Any, str], dict[str, float]],
    **settings: Any,
) -> None:
    """Train a model, or evaluate weights.

    Args:
        args: of `make_parser`.
        sets: data sets by name, to evaluate on.
        build_model: model from its config and weights.
        make_task: reads the training data.
        evaluate: figures of a model on one set, which has this name.
        **settings: of `train`.
    """

    def evaluate_all(model: nn.Module) -> dict[str, float]:
        figures: dict[str, float] = {}
        for name, content in sets.items():
            figures.update(evaluate(model, content, name))
        return figures

    if args.evaluate:
        figures = evaluate_all(build_model(args.config, args.evaluate))
        print(json.dumps(figures, indent=1))
        return
    if not args.work_dir:
        raise SystemExit('give --work-dir, or --evaluate WEIGHTS')
    torch.manual_seed(args.seed)
    train(
        build_model(args.config, args.init), make_task(), read_settings(args),
        evaluate=evaluate_all, restart=args.restart, **settings,
    )  # fmt: skip
