"""Every test here is one of interoperability."""

from pathlib import Path

import pytest
from tests.interop.peers import need


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker("interop")


@pytest.fixture(autouse=True)
def peer(request: pytest.FixtureRequest) -> None:
    """Skip or fail before the test begins if the peer that it is for is missing."""
    if "kind" in request.fixturenames:
        need(request.getfixturevalue("kind"))
