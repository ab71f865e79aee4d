"""Check a username and a password on every call, at a cost that allows it.

Argon2id takes some 25 ms. A password that was right is therefore remembered for a while, as a digest under a key that
lives in this process only, and bound to the very hash it was checked against: a changed password counts at once.
"""

import asyncio
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from typing import Final, NamedTuple, Protocol

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from aldis.model.errors import AuthenticationFailed, Overloaded
from aldis.model.types import Account
from aldis.web.limits import RateLimiter

_HASHER: Final = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
_MAX_PASSWORD: Final = 1024


def hash_password(password: str) -> str:
    """Return the argon2id hash of a password, as accounts store it. Takes some 25 ms and 19 MiB.

    Raises:
        ValueError: It is empty or longer than 1024 bytes.
    """
    if not 0 < len(password.encode()) <= _MAX_PASSWORD:
        raise ValueError(f"a password has 1 to {_MAX_PASSWORD} bytes")
    return _HASHER.hash(password)


def is_password(stored_hash: str, password: str | bytes) -> bool:
    """Say whether a password belongs to a stored hash. Takes some 25 ms and 19 MiB."""
    try:
        return _HASHER.verify(stored_hash, password)
    except (VerificationError, InvalidHashError):
        return False


class Accounts(Protocol):
    """Where customers are found."""

    def recall_account(self, username: str) -> Account | None:
        """Return an account from memory, at once, no older than a second or two; None says nothing."""
        ...

    async def find_account(self, username: str) -> Account | None:
        """Return the account as it is now, or None."""
        ...

    async def credits_of(self, account_id: int) -> int:
        """Return an account's credits in thousandths."""
        ...


class AuthSettings(NamedTuple):
    """How many password checks there may be."""

    ttl_s: float = 300
    """How long a right password is remembered."""
    remembered: int = 10_000
    threads: int = 2
    max_waiting: int = 64
    """Checks that run or wait; strangers get half of them."""
    tries_per_name: float = 20
    seconds_per_name_try: float = 5
    tries_per_ip: float = 50
    seconds_per_ip_try: float = 1


_DEFAULTS: Final = AuthSettings()


class _Verified(NamedTuple):
    """A password that was right."""

    digest: bytes
    stored_hash: str
    until: float


_Question = tuple[str, str, bytes]
"""Username, stored hash, digest of the password."""


class Authenticator:
    """Finds the account behind a username and a password.

    Wrong tries are limited by name and by address before any hashing, and right ones are given back. A password that is
    remembered, even past its time, is no guess: it passes the limits, so that an attacker on a name or behind a shared
    address can't lock out its owner.
    """

    def __init__(self, accounts: Accounts, monotonic: Callable[[], float], settings: AuthSettings = _DEFAULTS) -> None:
        """Take the accounts and a clock in seconds that never jumps."""
        self._accounts = accounts
        self._monotonic = monotonic
        self._settings = settings
        self._key = secrets.token_bytes(32)
        self._nobody = hash_password(secrets.token_hex(16))
        self._verified: OrderedDict[int, _Verified] = OrderedDict()
        self._flights: dict[_Question, asyncio.Future[bool]] = {}
        self._names = RateLimiter(1 / settings.seconds_per_name_try, settings.tries_per_name, monotonic)
        self._addresses = RateLimiter(1 / settings.seconds_per_ip_try, settings.tries_per_ip, monotonic)
        self._threads = ThreadPoolExecutor(settings.threads, "argon2")
        self.hashed = 0
        """Password checks that took the long way."""
        self.limited = 0
        """Tries turned away before any check."""

    def close(self) -> None:
        """Drop the checks that wait."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def recall(self, username: str, password: bytes) -> Account | None:
        """Return the account if this password was found right lately, without any waiting; None says nothing."""
        account = self._accounts.recall_account(username)
        return account if account is not None and self._is_known(account, password) else None

    def _is_known(self, account: Account, password: bytes) -> bool:
        """Say whether a password was found right for an account lately."""
        if account.disabled:
            return False
        known = self._verified.get(account.account_id)
        if known is None or known.until < self._monotonic() or not self._matches(known, account, password):
            return False
        self._verified.move_to_end(account.account_id)
        return True

    async def authenticate(self, username: str, password: bytes, client: str) -> Account:
        """Return the account that a username and a password belong to.

        Args:
            username: As sent.
            password: As sent; bytes that are no UTF-8 are taken for ISO-8859-1.
            client: The caller's IP address.

        Raises:
            AuthenticationFailed: Unknown name, wrong password or disabled account, which all take the same time.
            Overloaded: Too many tries, or too many checks wait.
        """
        if len(password) > _MAX_PASSWORD:
            raise AuthenticationFailed
        account = await self._accounts.find_account(username)
        if account is not None and self._is_known(account, password):
            return account
        stored_hash = self._nobody if account is None else account.password_hash
        right = await self._check(username, account, stored_hash, password, client)
        now = await self._accounts.find_account(username)
        if not right or now is None or now.disabled or now.password_hash != stored_hash:
            raise AuthenticationFailed
        self._remember(now.account_id, stored_hash, password)
        return now

    async def _check(
        self, username: str, account: Account | None, stored_hash: str, password: bytes, client: str
    ) -> bool:
        """Check a password the long way; who asks what is being checked already waits for that check."""
        question = (username, stored_hash, self._digest(password))
        flight = self._flights.get(question)
        if flight is not None:
            return await asyncio.shield(flight)
        known = None if account is None else self._verified.get(account.account_id)
        is_stranger = account is None or known is None or not self._matches(known, account, password)
        room = self._settings.max_waiting // (2 if is_stranger else 1)
        if len(self._flights) >= room or (is_stranger and not self._take_try(username[:64], client)):
            self.limited += 1
            raise Overloaded
        right = await asyncio.shield(self._start(question, password))
        if right and is_stranger:
            self._names.give_back(username[:64])
            self._addresses.give_back(client)
        return right

    def _take_try(self, name: str, client: str) -> bool:
        """Charge a name and an address for a guess, and say whether they could pay."""
        if not self._addresses.take(client):
            return False
        if not self._names.take(name):
            self._addresses.give_back(client)
            return False
        return True

    def _start(self, question: _Question, password: bytes) -> "asyncio.Future[bool]":
        """Start a check in a thread."""
        self.hashed += 1
        loop = asyncio.get_running_loop()
        flight = loop.run_in_executor(self._threads, is_password, question[1], _normal(password))
        self._flights[question] = flight
        flight.add_done_callback(lambda _: self._flights.pop(question, None))
        return flight

    def _remember(self, account_id: int, stored_hash: str, password: bytes) -> None:
        """Keep a right password's digest."""
        until = self._monotonic() + self._settings.ttl_s
        self._verified[account_id] = _Verified(self._digest(password), stored_hash, until)
        self._verified.move_to_end(account_id)
        if len(self._verified) > self._settings.remembered:
            self._verified.popitem(last=False)

    def _matches(self, known: _Verified, account: Account, password: bytes) -> bool:
        """Say whether a password is the one remembered, against the hash as it is now."""
        return hmac.compare_digest(known.digest, self._digest(password)) and known.stored_hash == account.password_hash

    def _digest(self, password: bytes) -> bytes:
        return blake2b(_normal(password), digest_size=32, key=self._key).digest()


def _normal(password: bytes) -> bytes:
    """Return a password in UTF-8, which is what hashes are made of."""
    if password.isascii():
        return password
    try:
        password.decode()
    except UnicodeDecodeError:
        return password.decode("latin-1").encode()
    return password
