"""Predict keypoints for people of a COCO file; see `pipeline.cli.predict_keypoints`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout, installed or not

from pipeline.cli.predict_keypoints import main

if __name__ == '__main__':
    sys.exit(main())
