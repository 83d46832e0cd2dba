"""Scores of pycocotools."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


def run_pycocotools(annotations: Path, results: list[dict[str, Any]], task: str) -> COCOeval:
    """Score results against an annotation file."""
    ground_truth = COCO(str(annotations))
    run = COCOeval(ground_truth, ground_truth.loadRes(results), task)
    run.evaluate()
    run.accumulate()
    run.summarize()
    return run
