"""Export a trained segmenter as SAM 2 weights; see `pipeline.cli.export_sam`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout, installed or not

from pipeline.cli.export_sam import main

if __name__ == '__main__':
    sys.exit(main())
