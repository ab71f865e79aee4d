"""What an SMPP connector needs to know, checked before anything is connected."""

import ssl
from typing import Final, Literal

import msgspec

from aldis.connectors.addresses import Address, parse_addresses
from aldis.connectors.tls import client_context
from aldis.connectors.translate import Addressing
from aldis.smpp.commands import BindReceiver, BindRequest, BindTransceiver, BindTransmitter
from aldis.smpp.pdu import encode

LONGEST_RESPONSE_S: Final = 600.0  # well below the lease of a message that is being sent
VERSIONS: Final = {"3.3": 0x33, "3.4": 0x34, "5.0": 0x50}
"""interface_version of each version that can be configured."""


class SmppSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an SMPP connector needs to know."""

    name: str
    host: str
    """The message centre's host; `host:port` where its port is another, and several with commas between them if one
    account is served at several: each bind goes to the next one when its connection fails."""
    port: int = 2775
    system_id: str
    password: str = ""
    system_type: str = ""
    version: Literal["3.3", "3.4", "5.0"] = "3.4"
    """SMPP version that the bind says we speak; 3.3 has no transceivers."""
    bind: Literal["transceiver", "pair"] = "transceiver"
    """`pair`: a transmitter and a receiver in place of each transceiver."""
    binds: int = 1
    """How many transceivers or pairs, over all nodes."""
    window: int = 10
    """Submits a bind may have unanswered."""
    rate: float = 0.0
    """Submits a second and bind; 0: as many as the window allows."""
    query: bool = False
    """Whether the message centre answers `query_sm`, and may be asked."""
    enquire_link_s: float = 30.0
    response_timeout_s: float = 60.0
    connect_timeout_s: float = 10.0
    reconnect_min_s: float = 0.5
    reconnect_max_s: float = 30.0
    max_unanswered: int = 5_000
    """Deliveries that may wait for their answer on a bind; above it, the bind isn't read from."""
    tls: bool = False
    """Whether to speak TLS. The certificate and its host name are verified."""
    tls_ca: str = ""
    """PEM file of the authorities to trust in place of the system's."""
    tls_certificate: str = ""
    """PEM file of the client certificate to show, with its chain, if the message centre asks for one."""
    tls_key: str = ""
    """PEM file of the client certificate's key; not given: it is in the same file."""
    tls_server_name: str = ""
    """Host name that the certificate must be for, where it is not that of `host`."""
    tls_verify: bool = True
    """`false`: speak TLS with whoever answers. The log warns of it."""
    service_type: str = ""
    addressing: Addressing = Addressing()

    def __post_init__(self) -> None:
        """Refuse what could never bind."""
        if self.binds < 1 or self.window < 1 or self.max_unanswered < 1:
            raise ValueError("binds, window and max_unanswered are at least 1")
        if self.response_timeout_s > LONGEST_RESPONSE_S:
            raise ValueError(f"response_timeout_s is at most {LONGEST_RESPONSE_S:.0f}")
        if self.rate < 0 or self.response_timeout_s <= 0 or self.reconnect_min_s <= 0:
            raise ValueError("rate is not negative, response_timeout_s and reconnect_min_s are above 0")
        if len(self.service_type) > 5:
            raise ValueError("service_type has at most 5 characters")
        if self.version == "3.3" and self.bind == "transceiver":
            raise ValueError('SMPP 3.3 knows no transceivers: bind = "pair" is wanted')
        _ = self.addresses
        self._check_tls()
        encode(self.bind_request(BindTransceiver), 1)

    def _check_tls(self) -> None:
        given = [name for name in _ONLY_WITH_TLS if getattr(self, name)] + ["tls_verify"] * (not self.tls_verify)
        if given and not self.tls:
            raise ValueError(f"{given[0]} is of no use without tls = true")
        if not self.tls_verify and (self.tls_ca or self.tls_server_name):
            raise ValueError("tls_verify = false asks for nothing that tls_ca or tls_server_name could prove")
        if self.tls_key and not self.tls_certificate:
            raise ValueError("tls_key needs its tls_certificate")
        self.tls_context()

    def __repr__(self) -> str:
        """Show which connector this is, and no credential."""
        return f"SmppSettings({self.name!r}, {', '.join(map(str, self.addresses))})"

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Where the message centre can be reached."""
        return parse_addresses(self.host, self.port)

    def bind_request(self, kind: type[BindReceiver | BindTransmitter | BindTransceiver]) -> BindRequest:
        """Return the PDU that asks for a bind of a kind."""
        names = self.system_id.encode(), self.password.encode(), self.system_type.encode()
        return kind(*names, VERSIONS[self.version])

    def bind_requests(self) -> list[BindRequest]:
        """Return the PDU of each connection that one bind is made of."""
        kinds = (BindTransceiver,) if self.bind == "transceiver" else (BindTransmitter, BindReceiver)
        return [self.bind_request(kind) for kind in kinds]

    def tls_context(self) -> ssl.SSLContext | None:
        """Return how to speak TLS; None: not at all.

        Raises:
            ValueError: a file is not there, or not what it should be.
        """
        if not self.tls:
            return None
        return client_context(
            ca=self.tls_ca, certificate=self.tls_certificate, key=self.tls_key, verify=self.tls_verify
        )


_ONLY_WITH_TLS: Final = ("tls_ca", "tls_certificate", "tls_key", "tls_server_name")
