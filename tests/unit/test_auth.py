"""Passwords: checked slowly once, then fast, and never at the mercy of those who guess."""

import asyncio
import threading
from collections.abc import Callable

import msgspec
import pytest

from aldis.model.errors import AuthenticationFailed, Overloaded
from aldis.model.types import Account, AccountId
from aldis.web import auth
from aldis.web.auth import Authenticator, AuthSettings, hash_password, is_password
from aldis.web.limits import RateLimiter

SECRET = hash_password("secret")
CHANGED = hash_password("changed")


class Accounts:
    def __init__(self) -> None:
        self.by_name = {"demo": Account(account_id=AccountId(1), username="demo", password_hash=SECRET)}

    def add(self, account_id: int, name: str) -> None:
        self.by_name[name] = Account(account_id=AccountId(account_id), username=name, password_hash=SECRET)

    def change(self, **fields: object) -> None:
        self.by_name["demo"] = msgspec.structs.replace(self.by_name["demo"], **fields)

    def recall_account(self, username: str) -> Account | None:
        return self.by_name.get(username)

    async def find_account(self, username: str) -> Account | None:
        return self.by_name.get(username)

    async def credits_of(self, account_id: int) -> int:
        return 0


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def accounts() -> Accounts:
    return Accounts()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(accounts, clock):
    made: list[Authenticator] = []

    def build(**settings: float) -> Authenticator:
        made.append(Authenticator(accounts, clock, AuthSettings(**settings)))
        return made[-1]

    yield build
    for authenticator in made:
        authenticator.close()


async def refused(call: "asyncio.Future | object") -> type[Exception] | None:
    try:
        await call
    except (AuthenticationFailed, Overloaded) as error:
        return type(error)
    return None


def test_a_hash_names_the_algorithm_and_its_costs_and_fits_one_password():
    assert SECRET.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert is_password(SECRET, b"secret")
    assert not is_password(SECRET, b"Secret")
    assert not is_password("no hash at all", b"secret")


@pytest.mark.parametrize("password", ["", "x" * 1025], ids=["empty", "too long"])
def test_a_password_that_could_never_log_in_is_not_hashed(password):
    with pytest.raises(ValueError, match="1 to 1024 bytes"):
        hash_password(password)


async def test_a_right_password_is_hashed_once_and_then_remembered(make, accounts):
    authenticator = make()
    assert authenticator.recall("demo", b"secret") is None
    assert await authenticator.authenticate("demo", b"secret", "::1") is accounts.by_name["demo"]
    assert authenticator.recall("demo", b"secret") is accounts.by_name["demo"]
    assert authenticator.recall("demo", b"secreT") is None
    await authenticator.authenticate("demo", b"secret", "::1")
    assert authenticator.hashed == 1


async def test_a_remembered_password_is_checked_again_after_its_time(make, clock):
    authenticator = make(ttl_s=300)
    await authenticator.authenticate("demo", b"secret", "::1")
    clock.now += 300
    assert authenticator.recall("demo", b"secret") is not None
    clock.now += 1
    assert authenticator.recall("demo", b"secret") is None
    await authenticator.authenticate("demo", b"secret", "::1")
    assert authenticator.hashed == 2


# EAPI-6
@pytest.mark.parametrize(
    ("username", "password"),
    [("demo", b"wrong"), ("nobody", b"secret"), ("demo", b""), ("", b"secret"), ("Demo", b"secret")],
)
async def test_wrong_credentials_fail_after_one_hash_and_are_not_remembered(make, username, password):
    authenticator = make()
    for n in (1, 2):
        with pytest.raises(AuthenticationFailed, match=r"^invalid credentials$"):
            await authenticator.authenticate(username, password, "::1")
        assert authenticator.hashed == n


async def test_a_changed_password_counts_at_once(make, accounts):
    authenticator = make()
    await authenticator.authenticate("demo", b"secret", "::1")
    accounts.change(password_hash=CHANGED)
    assert authenticator.recall("demo", b"secret") is None
    assert await refused(authenticator.authenticate("demo", b"secret", "::1")) is AuthenticationFailed
    await authenticator.authenticate("demo", b"changed", "::1")


# EAPI-6
async def test_a_disabled_account_fails_at_once_and_takes_as_long(make, accounts):
    authenticator = make()
    await authenticator.authenticate("demo", b"secret", "::1")
    accounts.change(disabled=True)
    assert authenticator.recall("demo", b"secret") is None
    assert await refused(authenticator.authenticate("demo", b"secret", "::1")) is AuthenticationFailed
    assert authenticator.hashed == 2


@pytest.fixture
def slow_hash(monkeypatch) -> Callable[[], None]:
    """Make checks wait until the returned function is called."""
    gate = threading.Event()

    def wait(stored_hash: str, password: bytes) -> bool:
        assert gate.wait(10)
        return stored_hash == SECRET and password == b"secret"

    monkeypatch.setattr(auth, "is_password", wait)
    yield gate.set
    gate.set()


async def test_an_account_disabled_during_the_check_does_not_get_in(make, accounts, slow_hash):
    authenticator = make()
    async with asyncio.TaskGroup() as tasks:
        login = tasks.create_task(refused(authenticator.authenticate("demo", b"secret", "::1")))
        await asyncio.sleep(0)
        accounts.change(disabled=True)
        slow_hash()
    assert login.result() is AuthenticationFailed


async def test_callers_with_the_same_credentials_share_one_check(make, slow_hash):
    authenticator = make(tries_per_name=1, tries_per_ip=1)
    async with asyncio.TaskGroup() as tasks:
        logins = [tasks.create_task(authenticator.authenticate("demo", b"secret", "::1")) for _ in range(100)]
        await asyncio.sleep(0)
        slow_hash()
    assert {login.result().username for login in logins} == {"demo"}
    assert authenticator.hashed == 1


async def test_a_caller_who_goes_away_takes_nobody_along(make, slow_hash):
    authenticator = make()
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(authenticator.authenticate("demo", b"secret", "::1"))
        second = tasks.create_task(authenticator.authenticate("demo", b"secret", "::1"))
        await asyncio.sleep(0)
        first.cancel()
        slow_hash()
    assert first.cancelled()
    assert second.result().username == "demo"


# EAPI-7
async def test_guesses_on_one_name_are_limited_and_its_owner_still_gets_in(make, clock):
    authenticator = make(tries_per_name=3, seconds_per_name_try=5)
    await authenticator.authenticate("demo", b"secret", "192.0.2.1")
    outcomes = [await refused(authenticator.authenticate("demo", b"guess%d" % n, f"198.51.100.{n}")) for n in range(5)]
    assert outcomes == [AuthenticationFailed] * 3 + [Overloaded] * 2
    assert authenticator.limited == 2
    clock.now += 301
    assert await authenticator.authenticate("demo", b"secret", "192.0.2.1")
    clock.now += 5
    assert await refused(authenticator.authenticate("demo", b"guess9", "198.51.100.9")) is AuthenticationFailed


# EAPI-7
async def test_guesses_from_one_address_are_limited_and_cost_the_names_nothing(make):
    authenticator = make(tries_per_ip=2, tries_per_name=1)
    names = ["a", "b", "demo"]
    outcomes = [await refused(authenticator.authenticate(name, b"guess", "198.51.100.1")) for name in names]
    assert outcomes == [AuthenticationFailed, AuthenticationFailed, Overloaded]
    assert await authenticator.authenticate("demo", b"secret", "192.0.2.1")


async def test_unknown_names_are_limited_like_known_ones(make):
    authenticator = make(tries_per_name=2)
    outcomes = [await refused(authenticator.authenticate("nobody", b"%d" % n, f"192.0.2.{n}")) for n in range(3)]
    assert outcomes == [AuthenticationFailed, AuthenticationFailed, Overloaded]


async def test_right_passwords_use_up_no_tries(make, accounts):
    authenticator = make(tries_per_ip=1, tries_per_name=1)
    for n in range(4):
        accounts.add(10 + n, f"user{n}")
        await authenticator.authenticate(f"user{n}", b"secret", "192.0.2.1")
    assert authenticator.hashed == 4


async def test_the_queue_of_checks_is_bounded_and_keeps_room_for_known_ones(make, clock, slow_hash):
    authenticator = make(max_waiting=4, ttl_s=10)
    slow_hash()
    await authenticator.authenticate("demo", b"secret", "192.0.2.1")
    clock.now += 11
    gate = threading.Event()
    auth.is_password = lambda stored, password: gate.wait(10) and password == b"secret"
    async with asyncio.TaskGroup() as tasks:
        guesses = [tasks.create_task(refused(authenticator.authenticate(f"u{n}", b"x", "192.0.2.9"))) for n in range(5)]
        known = tasks.create_task(authenticator.authenticate("demo", b"secret", "192.0.2.1"))
        await asyncio.sleep(0)
        gate.set()
    assert [guess.result() for guess in guesses] == [AuthenticationFailed] * 2 + [Overloaded] * 3
    assert known.result().username == "demo"


async def test_the_longest_unused_password_is_forgotten_first(make, accounts):
    authenticator = make(remembered=2)
    accounts.add(2, "two")
    accounts.add(3, "three")
    await authenticator.authenticate("demo", b"secret", "::1")
    await authenticator.authenticate("two", b"secret", "::1")
    assert authenticator.recall("demo", b"secret")
    await authenticator.authenticate("three", b"secret", "::1")
    assert authenticator.recall("two", b"secret") is None
    assert authenticator.recall("demo", b"secret")
    assert authenticator.recall("three", b"secret")


@pytest.mark.parametrize("sent", ["pässwörd".encode(), "pässwörd".encode("latin-1")], ids=["utf-8", "latin-1"])
async def test_a_password_is_the_same_in_either_charset(make, accounts, sent):
    accounts.change(password_hash=hash_password("pässwörd"))
    assert await make().authenticate("demo", sent, "::1")


async def test_an_endless_password_costs_no_hash(make):
    authenticator = make()
    assert await refused(authenticator.authenticate("demo", b"x" * 1025, "::1")) is AuthenticationFailed
    assert authenticator.hashed == 0


def test_nothing_of_a_password_is_kept_in_the_clear(make):
    authenticator = make()
    asyncio.run(authenticator.authenticate("demo", b"secret", "::1"))
    assert "secret" not in repr(vars(authenticator))


def test_buckets_fill_with_time_and_the_longest_unused_is_forgotten(clock):
    limiter = RateLimiter(per_second=1, burst=2, monotonic=clock, keys=2)
    assert [limiter.take("a") for _ in range(3)] == [True, True, False]
    clock.now += 1.5
    assert [limiter.take("a") for _ in range(2)] == [True, False]
    limiter.give_back("a")
    assert limiter.take("a")
    limiter.take("b")
    limiter.take("c")
    assert limiter.take("a"), "a was forgotten, and starts full"
    limiter.give_back("never seen")
