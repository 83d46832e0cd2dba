"""Draw synthetic crowds; see `pipeline.cli.make_synthetic_crowd`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout, installed or not

from pipeline.cli.make_synthetic_crowd import main

if __name__ == '__main__':
    sys.exit(main())
