"""Convert a data set to the COCO format; see `pipeline.cli.convert_dataset`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout, installed or not

from pipeline.cli.convert_dataset import main

if __name__ == '__main__':
    sys.exit(main())
