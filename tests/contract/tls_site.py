"""Real authorities and certificates for the tests of TLS, made with the openssl command."""

import shutil
import ssl
import subprocess
from typing import NamedTuple

import pytest

_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]


class Pem(NamedTuple):
    """A certificate and its key, as files."""

    certificate: str
    key: str


def _openssl(*arguments):
    command = shutil.which("openssl")
    if command is None:
        pytest.skip("needs the openssl command to make certificates")
    subprocess.run([command, *map(str, arguments)], check=True, capture_output=True)


def authority(folder, name):
    """Make an authority."""
    pem = Pem(str(folder / f"{name}.pem"), str(folder / f"{name}.key"))
    usage = ["-addext", "keyUsage=critical,keyCertSign,cRLSign"]
    _openssl("req", "-x509", *_KEY, "-days", 1, "-subj", f"/CN={name}", *usage, "-out", pem[0], "-keyout", pem[1])
    return pem


def issue(folder, issuer, name, names):
    """Make a certificate for `names`, such as DNS:smsc.example, that an authority vouches for."""
    pem = Pem(str(folder / f"{name}.pem"), str(folder / f"{name}.key"))
    request, extensions = folder / f"{name}.csr", folder / f"{name}.ext"
    extensions.write_text(f"subjectAltName={names}\nauthorityKeyIdentifier=keyid,issuer\n")
    _openssl("req", "-new", *_KEY, "-subj", f"/CN={name}", "-out", request, "-keyout", pem.key)
    vouched = ["-CA", issuer.certificate, "-CAkey", issuer.key, "-CAcreateserial", "-days", 1]
    _openssl("x509", "-req", "-in", request, *vouched, "-extfile", extensions, "-out", pem.certificate)
    return pem


def lock(folder, pem, password):
    """Return a copy of a certificate whose key has a password."""
    locked = str(folder / "locked.key")
    _openssl("pkcs8", "-topk8", "-in", pem.key, "-out", locked, "-passout", f"pass:{password}")
    return Pem(pem.certificate, locked)


def server_context(pem, clients=None):
    """Return a message centre's side of TLS; with `clients`, it asks for a certificate of that authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*pem)
    if clients is not None:
        context.load_verify_locations(clients.certificate)
        context.verify_mode = ssl.CERT_REQUIRED
    return context
