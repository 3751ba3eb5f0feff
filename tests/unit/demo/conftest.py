import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[3] / "examples"
if str(EXAMPLES) not in sys.path:
    sys.path.insert(0, str(EXAMPLES))


@pytest.fixture(scope="session")
def traffic():
    from demo.traffic import SIZES, build

    return build(SIZES["small"], "own", seed=7, task_share=0.5)
