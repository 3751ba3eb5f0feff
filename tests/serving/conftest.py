"""The interpreters of the heavy environments."""

import pytest
from heavy import python_of


@pytest.fixture(scope="session")
def train_python():
    return python_of("SLMFLEET_TRAIN_PYTHON")


@pytest.fixture(scope="session")
def serve_python():
    return python_of("SLMFLEET_SERVE_PYTHON")
