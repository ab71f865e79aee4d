"""A peer as a process: the script of `npm` or `perl`, told and telling in lines of JSON."""

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import IO, Any

from tests.interop.peers import HERE, NPM, PERL, Peer, program

Event = dict[str, Any]
SCRIPTS = {NPM: ("node", "npm/peer.js"), PERL: ("perl", "perl/peer.pl")}
PATIENCE_S = 15.0


class ScriptedPeer:
    """What the peer has told, and a way to tell it what to do."""

    def __init__(self, process: asyncio.subprocess.Process, errors: IO[bytes]) -> None:
        self.events: list[Event] = []
        self._process = process
        self._errors = errors
        self._news = asyncio.Event()

    async def listen(self) -> None:
        """Keep what the peer tells until it ends."""
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self.events.append(json.loads(line))
            self._news.set()

    def tell(self, do: str, **how: Any) -> None:
        """Have the peer send a PDU: `fields`, `tlvs`, `octet_tlvs` (hexadecimal), and `text` or `octets`."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **how}).encode() + b"\n")

    def heard(self, command: str) -> list[Event]:
        """Return the PDUs of a command that the peer has received, as its own decoder reads them."""
        return [event for event in self.events if event.get("command") == command]

    async def until(self, condition: Callable[[], object], why: str) -> None:
        """Wait for something that becomes true by what the peer tells."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not condition():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            self._errors.seek(0)
            said = self._errors.read().decode(errors="replace")
            raise AssertionError(f"{why}; events {self.events[-5:]}; stderr {said[-2_000:]}") from None

    async def receives(self, command: str, count: int = 1) -> list[Event]:
        """Wait for so many PDUs of a command."""
        await self.until(lambda: len(self.heard(command)) >= count, f"no {count} {command}")
        return self.heard(command)


@asynccontextmanager
async def started(peer: Peer, settings: Event) -> AsyncIterator[ScriptedPeer]:
    """Yield a peer that runs."""
    name, script = SCRIPTS[peer]
    path = program(name)
    assert path is not None
    with tempfile.TemporaryFile() as errors:
        process = await asyncio.create_subprocess_exec(
            path,
            HERE / script,
            json.dumps(settings),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
        )
        running = ScriptedPeer(process, errors)
        async with asyncio.TaskGroup() as group:
            group.create_task(running.listen())
            try:
                yield running
            finally:
                assert process.stdin is not None
                process.stdin.close()  # both scripts end with their input
                await process.wait()
