"""Measure the time and memory of each stage; `python tools/benchmark.py --help` has the options."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout, installed or not

from pipeline.cli.benchmark import main

if __name__ == '__main__':
    sys.exit(main())
