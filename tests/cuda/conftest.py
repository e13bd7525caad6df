"""What tests of kernels find."""

import pytest

import simulation


@pytest.fixture(scope="module")
def simulator():
    with simulation.reliable_and_fast():
        yield
