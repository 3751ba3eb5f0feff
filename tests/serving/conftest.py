"""The interpreters of the heavy environments, and one dataset and base for all tests of training."""

import pytest
from heavy import python_of
from training import make_workplace


@pytest.fixture(scope="session")
def train_python():
    return python_of("SLMFLEET_TRAIN_PYTHON")


@pytest.fixture(scope="session")
def serve_python():
    return python_of("SLMFLEET_SERVE_PYTHON")


@pytest.fixture(scope="session")
def workplace(train_python, tmp_path_factory):
    return make_workplace(train_python, tmp_path_factory.mktemp("training"))
