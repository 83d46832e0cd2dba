"""The command `bmp export-sam` of this checkout, installed or not."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipeline.__main__ import main

if __name__ == '__main__':
    sys.exit(main(['export-sam', *sys.argv[1:]]))
