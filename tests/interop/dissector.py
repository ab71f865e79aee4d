"""What tshark's dissector makes of a capture."""

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

from tests.interop.capture import SMSC_PORT
from tests.interop.peers import TSHARK, need, program

_CHAT = 0x200000
"""The severity of what is no complaint: that a connection begins."""


_NO_XML = re.compile(r"[\x00-\x08\x0B\x0C\x0E-\x1F]")
"""Where a text has such characters, tshark writes them as they are."""


@dataclass
class Dissected:
    """One PDU as the dissector shows it."""

    from_port: int
    fields: dict[str, list[str]] = field(default_factory=dict)
    """Values by name, in the order of the PDU, as tshark filters have them."""
    octets: dict[str, list[str]] = field(default_factory=dict)
    """The same in hexadecimal, as they are in the packet."""

    def one(self, name: str) -> str:
        [value] = self.fields[name]
        return value


@dataclass
class Dissection:
    """All PDUs of a capture, and all that the dissector complained of."""

    pdus: list[Dissected]
    complaints: list[str]


def dissect(capture: Path) -> Dissection:
    """Run tshark over a capture."""
    need(TSHARK)
    tshark = program("tshark")
    assert tshark is not None
    decode_as = f"tcp.port=={SMSC_PORT},smpp"
    run = subprocess.run(
        [tshark, "-r", capture, "-d", decode_as, "-T", "pdml", "-o", "tcp.check_checksum:FALSE"],
        capture_output=True,
        check=True,
        timeout=60,
    )
    packets = ElementTree.fromstring(_NO_XML.sub("?", run.stdout.decode(errors="replace"))).findall("packet")
    return Dissection(
        [pdu for packet in packets for pdu in _pdus(packet)],
        [complaint for packet in packets for complaint in _complaints(packet)],
    )


def _pdus(packet: ElementTree.Element) -> Iterator[Dissected]:
    port = packet.find(".//field[@name='tcp.srcport']")
    assert port is not None
    for proto in packet.findall("proto[@name='smpp']"):
        pdu = Dissected(int(port.get("show", "")))
        for each in proto.iter("field"):
            name = each.get("name", "")
            pdu.fields.setdefault(name, []).append(each.get("show", ""))
            pdu.octets.setdefault(name, []).append(each.get("value", ""))
        yield pdu


def _complaints(packet: ElementTree.Element) -> Iterator[str]:
    for each in packet.iter():
        name = each.get("name", "")
        if name == "_ws.malformed":
            yield f"malformed: {each.get('showname')}"
        elif name == "_ws.expert":
            severity = each.find("field[@name='_ws.expert.severity']")
            if severity is None or int(severity.get("show", "0")) > _CHAT:
                yield each.get("showname", "")
