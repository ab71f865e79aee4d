"""Where a bind connects to: several addresses may lead to one account with an upstream."""

from typing import Final, NamedTuple

_MOST: Final = 65_535


class Address(NamedTuple):
    """A host and a TCP port."""

    host: str
    port: int

    def __str__(self) -> str:
        """Return `host:port`, and `[v6]:port`."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Turn:
    """Which of its addresses a bind is at: the next one after each that failed."""

    def __init__(self, at: int) -> None:
        """Begin with the address at a place; beyond the last one it goes on with the first."""
        self._at = at

    def here(self, addresses: tuple[Address, ...]) -> Address:
        """Return the address to connect to."""
        return addresses[self._at % len(addresses)]

    def failed(self, address: Address, addresses: tuple[Address, ...]) -> None:
        """Go on to the next address, unless another leg of the bind already has."""
        if self.here(addresses) == address:
            self._at += 1


def parse_addresses(text: str, port: int) -> tuple[Address, ...]:
    """Return the addresses of `host, host:port, [v6]:port`.

    Args:
        text: One or more, with commas between them.
        port: Of those without one.

    Raises:
        ValueError: one of them is no address.
    """
    return tuple(_parse(one.strip(), port) for one in text.split(","))


def _parse(text: str, port: int) -> Address:
    host, colon, own = text.rpartition(":") if text.count(":") == 1 or "]:" in text else (text, "", "")
    host = host.removeprefix("[").removesuffix("]")
    if not host or (colon and not (own.isascii() and own.isdigit())):
        raise ValueError(f"host: {text!r} is neither host, host:port nor [v6]:port")
    found = int(own) if colon else port
    if not 0 <= found <= _MOST:
        raise ValueError(f"port {found} is above {_MOST}")
    return Address(host, found)
