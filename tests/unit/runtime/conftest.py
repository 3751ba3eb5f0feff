"""The runtime's source root. What is tested here needs neither torch nor Triton."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
sys.path[:0] = [str(ROOT / "runtime"), str(ROOT / "trainers")]
