"""What an operator may ask of the ledger: in this process, or through a socket that only its owner can open."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import structlog

from aldis.asking import cancel
from aldis.ledger import Ledger
from aldis.model.errors import AldisError
from aldis.model.money import format_credits
from aldis.model.types import Account, AccountId, MessageKey
from aldis.push.request import parse_url
from aldis.rules.profile import MEANINGS, Topic
from aldis.service.profiles import ProfileKeeper
from aldis.store.base import Store, Wanted, WantedInbound
from aldis.web.auth import hash_password

log = structlog.get_logger()

SOCKET_NAME = "admin.sock"
_LONGEST_SOCKET_PATH = 100
_ENCODER = msgspec.json.Encoder()


class Admin:
    """The operator's calls, by name. Arguments and answers are plain JSON values."""

    def __init__(self, store: Store, ledger: Ledger) -> None:
        """Take an open store."""
        self._store = store
        self._ledger = ledger
        self._keeper = ProfileKeeper(store, ledger.profiles)
        self._calls: dict[str, Callable[..., Awaitable[Any]]] = {
            "accounts.add": self.add_account,
            "accounts.list": self.list_accounts,
            "accounts.top_up": self.top_up,
            "accounts.set": self.set_account,
            "report": self.report,
            "connectors.profile": self.show_profile,
            "connectors.doubts": self.show_doubts,
            "connectors.horizon": self.show_horizon,
            "connectors.lock": self.lock_profile,
            "connectors.forget": self.forget_profile,
            "receipts.list": self.list_receipts,
            "receipts.rematch": self.rematch_receipts,
            "inbound.list": self.list_inbound,
            "cancel": self.cancel,
        }

    async def call(self, name: str, arguments: dict[str, Any]) -> Any:
        """Make a call.

        Raises:
            ValueError: there is no such call, or it can't be done; the text says why.
        """
        call = self._calls.get(name)
        if call is None:
            raise ValueError(f"no such call: {name}")
        return await call(**arguments)

    async def add_account(self, username: str, password: str, credits_milli: int = 0, push_url: str = "") -> Any:
        """Create an account."""
        _check_name(username)
        _check_push_url(push_url)
        account = Account(
            account_id=AccountId(0),
            username=username,
            password_hash=await asyncio.to_thread(hash_password, password),
            push_url=push_url,
        )
        stored = await self._store.put_account(account, credits_milli, self._ledger.now_ms())
        return _show(stored, await self._store.credits_of(stored.account_id))

    async def list_accounts(self) -> Any:
        """Return all accounts."""
        return [_show(one, one.credits_milli) for one in await self._store.list_accounts()]

    async def top_up(self, username: str, credits_milli: int, note: str = "") -> Any:
        """Add credits, or take some with a negative number."""
        account = await self._find(username)
        await self._store.top_up(account.account_id, credits_milli, self._ledger.now_ms(), note)
        return _show(account, await self._store.credits_of(account.account_id))

    async def set_account(self, username: str, changes: dict[str, Any]) -> Any:
        """Change an account's fields; `password` sets a new password."""
        if "password" in changes:
            changes["password_hash"] = await asyncio.to_thread(hash_password, changes.pop("password"))
        account = await self._find(username)
        if "push_url" in changes:
            _check_push_url(changes["push_url"])
        if changes.get("report_header", "") not in ("", "returns", "results"):
            raise ValueError("report_header is returns or results, or empty for the server's")
        if (changes.get("daily_quota") or 0) < 0:
            raise ValueError("a daily quota is 0 or more, or none")
        stored = await self._store.put_account(msgspec.structs.replace(account, **changes))
        return _show(stored, await self._store.credits_of(stored.account_id))

    async def report(self, batch_id: int, limit: int) -> Any:
        """Return a batch with its first messages' statuses and histories, whoever's it is; None for an unknown one."""
        owner = await self._store.owner_of(batch_id)
        batch = await self._store.find_report(owner.account_id, batch_id, None) if owner else None
        if owner is None or batch is None:
            return None
        shown = batch.reports[:limit]
        stories: dict[int, list[Any]] = {one.message_id: [] for one in shown}
        for event in await self._store.history(owner.account_id, batch_id, shown[-1].message_id):
            stories[event.message_id].append(msgspec.to_builtins(event))
        standings = await self._store.standings([MessageKey(owner.account_id, one.message_id) for one in shown])
        return {
            "batch_id": batch.batch_id,
            "account": owner.username,
            "created_at": batch.created_at,
            "originator": batch.originator,
            "source_id": batch.source_id,
            "recipients": len(batch.reports),
            "messages": [
                {
                    "message_id": one.message_id,
                    "msisdn": one.msisdn,
                    "status": int(one.status),
                    "completed_at": one.completed_at,
                    "credits": format_credits(one.price_milli),
                    "parts": {str(no): int(at.status) for no, at in sorted(standings.get(one.message_id, {}).items())},
                    "events": stories[one.message_id],
                }
                for one in shown
            ],
        }

    async def list_receipts(
        self, connector: str = "", number: str = "", upstream_id: str = "", limit: int = 100
    ) -> Any:
        """Return receipts that belong to no message so far, the newest first, and how many there are in all."""
        found = await self._store.parked_receipts(Wanted(connector, number, upstream_id, limit))
        shown = ("connector", "received_at", "upstream_id", "state", "error", "source", "destination", "text")
        return {
            "receipts": [{name: getattr(one, name) for name in shown} for one in found],
            "unmatched": (await self._store.queue_state(self._ledger.now_ms())).parked,
        }

    async def list_inbound(
        self, connector: str = "", number: str = "", destination: str = "", keyword: str = "", limit: int = 100
    ) -> Any:
        """Return messages of subscribers, the newest first."""
        found = await self._store.inbound_messages(WantedInbound(connector, number, destination, keyword, limit))
        return [{**msgspec.to_builtins(one), "octets": one.octets.hex()} for one in found]

    async def cancel(self, batch_id: int, msisdn: int | None = None) -> Any:
        """Cancel what is left of a batch, whoever's it is; returns what comes of it, None for an unknown one."""
        owner = await self._store.owner_of(batch_id)
        found = await cancel(self._ledger, owner.account_id, batch_id, msisdn) if owner else None
        return found and found._asdict()

    async def rematch_receipts(self) -> Any:
        """Look again at every receipt that belongs to no message; returns how many do now."""
        return await self._ledger.rematch(0, self._ledger.now_ms() + 1)

    async def show_profile(self, connector: str) -> Any:
        """Return what receipts have taught about a connector's link, by topic."""
        profiles = self._ledger.profiles
        await self._keeper.keep()
        return [
            {
                "topic": topic.value,
                "meaning": MEANINGS[topic],
                "counts": dict(sorted(counts.items(), key=lambda one: -one[1])),
                "settled": profiles.settled(connector, topic),
                "locked": bool(profiles.locked(connector, topic)),
            }
            for topic, counts in profiles.counts(connector).items()
        ]

    async def show_doubts(self, connector: str) -> Any:
        """Return what speaks for receipts that a connector's upstream makes up."""
        await self._keeper.keep()
        return self._ledger.profiles.doubts(connector)

    async def show_horizon(self, connector: str) -> Any:
        """Return for how many hours after validity a connector's profile suggests to wait for receipts."""
        await self._keeper.keep()
        return self._ledger.profiles.horizon_ms(connector) / 3_600_000

    async def lock_profile(self, connector: str, topic: str, value: str) -> Any:
        """Settle a topic by hand, or with an empty value leave it to receipts; then look again at parked receipts."""
        if topic not in list(Topic):
            raise ValueError(f"no topic is named {topic!r}: known are {', '.join(Topic)}")
        await self._keeper.lock(connector, Topic(topic), value)
        return await self.rematch_receipts()

    async def forget_profile(self, connector: str) -> Any:
        """Forget what receipts have taught about a connector's link."""
        await self._keeper.forget(connector)

    async def _find(self, username: str) -> Account:
        account = await self._store.find_account(username)
        if account is None:
            raise ValueError(f"no account is named {username!r}; `aldis accounts list` shows all")
        return account


def _check_name(username: str) -> None:
    if not username or len(username) > 64 or not username.isprintable() or username.strip() != username:
        raise ValueError("a username has 1 to 64 printable characters, and no space at its ends")


def _check_push_url(url: str) -> None:
    if url:
        parse_url(url)


def _show(account: Account, credits_milli: int) -> dict[str, Any]:
    return {
        "username": account.username,
        "credits": format_credits(credits_milli),
        "daily_quota": account.daily_quota,
        "push_url": account.push_url,
        "report_header": account.report_header,
        "show_transient": account.show_transient,
        "strict_latin1": account.strict_latin1,
        "accept_empty_push": account.accept_empty_push,
        "disabled": account.disabled,
    }


def socket_path(data_dir: Path) -> str:
    """Return a path of the admin socket that fits into a socket address."""
    path = str(data_dir / SOCKET_NAME)
    if len(path) <= _LONGEST_SOCKET_PATH:
        return path
    return f"/proc/self/fd/{os.open(data_dir, os.O_RDONLY | os.O_DIRECTORY)}/{SOCKET_NAME}"


class AdminSocket:
    """Answers an operator's calls on a Unix socket: a line of JSON each way."""

    def __init__(self, admin: Admin, data_dir: Path) -> None:
        """Take the calls and where to listen."""
        self._admin = admin
        self._path = socket_path(data_dir)

    async def run(self) -> None:
        """Serve until cancelled."""
        self._remove()
        before = os.umask(0o177)
        try:
            server = await asyncio.start_unix_server(self._serve, self._path, limit=1 << 20)
        finally:
            os.umask(before)
        try:
            async with server:
                await server.serve_forever()
        finally:
            self._remove()

    def _remove(self) -> None:
        Path(self._path).unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(_ENCODER.encode(await self._answer(line)) + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError):
            pass
        finally:
            writer.close()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            request = msgspec.json.decode(line, type=dict[str, Any])
            return {"result": await self._admin.call(request["call"], request.get("arguments", {}))}
        except (AldisError, ValueError, TypeError, KeyError) as error:
            return {"error": str(error)}
        except Exception as error:
            log.exception("admin call failed")
            return {"error": f"internal error: {type(error).__name__}"}


async def ask(data_dir: Path, name: str, arguments: dict[str, Any]) -> Any:
    """Make a call to the process that runs on a data directory.

    Raises:
        ConnectionError: no process answers there.
        ValueError: the call failed; the text says why.
    """
    reader, writer = await asyncio.open_unix_connection(socket_path(data_dir), limit=1 << 26)
    try:
        writer.write(_ENCODER.encode({"call": name, "arguments": arguments}) + b"\n")
        await writer.drain()
        line = await reader.readline()
    finally:
        writer.close()
    if not line:
        raise ConnectionError("the process ended before it answered")
    answer = msgspec.json.decode(line)
    if "error" in answer:
        raise ValueError(answer["error"])
    return answer["result"]
