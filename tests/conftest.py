"""Shared by all tests: one thread (the default for byte-equal results), no network, small sounds."""

import os
import signal

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# a shell starts what runs in its background with Ctrl-C ignored, and children inherit that; tests send it to theirs
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from jaxtyping import config as jaxtyping_config

from musiclm.core.bundle import Bundle
from tests.forked import CHECKED


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


def pytest_configure(config: pytest.Config) -> None:
    """Commands that tests run in other processes check annotations where this one does."""
    if checked := config.getoption("--jaxtyping-packages"):
        os.environ[CHECKED] = checked


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Annotations go unchecked: for input of a wrong type or shape, which the package must refuse in its own words."""
    jaxtyping_config.update("jaxtyping_disable", True)
    yield
    jaxtyping_config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle of random weights; read only."""
    from tests.mock import mock_bundle

    return mock_bundle(Path(tmp_path_factory.mktemp("bundle")))


@pytest.fixture(scope="session")
def unsteered(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """One whose tokens tell neither onsets nor pitches, so that it can't be steered or follow a melody; read only."""
    from tests.mock import mock_bundle

    return mock_bundle(Path(tmp_path_factory.mktemp("unsteered")), cues=False)
