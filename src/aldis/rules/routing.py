"""Which connector takes a number, and at what price."""

from collections.abc import Iterable

import msgspec


class Route(msgspec.Struct, frozen=True):
    """One line of the routing table."""

    prefix: str
    """Leading digits of the MSISDNs that it takes; empty takes all."""
    connector: str
    """The queue that its messages wait in: a connector, or several in order of preference (`rules.failover`)."""
    price_milli: int
    """Price of one part."""


class Router:
    """Finds the route with the longest prefix that fits."""

    def __init__(self, routes: Iterable[Route]) -> None:
        """Index the routes.

        Raises:
            ValueError: two routes have the same prefix.
        """
        self._by_prefix: dict[str, Route] = {}
        for route in routes:
            if route.prefix in self._by_prefix:
                raise ValueError(f"two routes have the prefix {route.prefix!r}")
            self._by_prefix[route.prefix] = route
        self._default = self._by_prefix.get("")
        self._lengths = sorted({len(prefix) for prefix in self._by_prefix if prefix}, reverse=True)

    def find(self, msisdn: int) -> Route | None:
        """Return the route for a number, or None: unroutable."""
        if self._lengths:
            digits = str(msisdn)
            for length in self._lengths:
                route = self._by_prefix.get(digits[:length])
                if route is not None:
                    return route
        return self._default
