"""The trainers' source root. Their pure parts need neither torch nor numpy."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3] / "trainers"))
