"""Everything about pushes is tested on both event loops: asyncio's own and uvloop."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import pytest
import uvloop
from push_receiver import Make
from push_world import World

from aldis.push.client import Limits, PushClient
from aldis.push.guard import EgressGuard


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    made: list[PushClient] = []

    def make(*, guard: EgressGuard | None = None, tls: ssl.SSLContext | None = None, **limits: Any) -> PushClient:
        client = PushClient(guard or EgressGuard(allow_private=True), Limits(**limits), tls)
        made.append(client)
        return client

    yield make
    for client in made:
        await client.aclose()
        assert client.open_connections == 0


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    await made.stop()
    await made.client.aclose()
    assert made.engine.stats.errors == 0
