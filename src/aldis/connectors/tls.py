"""TLS towards a message centre: who vouches for it, and what we show for ourselves."""

import ssl
from pathlib import Path


def client_context(*, ca: str = "", certificate: str = "", key: str = "", verify: bool = True) -> ssl.SSLContext:
    """Return how to speak TLS as the side that connects.

    Args:
        ca: PEM file of the authorities to trust; empty: the system's.
        certificate: PEM file of the chain to show when asked; empty: none.
        key: PEM file of its key; empty: in the same file.
        verify: Whether the other side must prove its name.

    Raises:
        ValueError: a file is not there, or not what it should be; the text names the setting.
    """
    for name, file in (("tls_ca", ca), ("tls_certificate", certificate), ("tls_key", key)):
        if file and not Path(file).is_file():
            raise ValueError(f"{name} = {file!r}: there is no such file")
    context = _trusting(ca)
    if certificate:
        try:
            context.load_cert_chain(certificate, key or None, password=_no_password)
        except (ssl.SSLError, OSError, ValueError) as error:
            raise ValueError(f"tls_certificate = {certificate!r}, tls_key = {key!r}: {_words(error)}") from None
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _trusting(ca: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca or None)
    except (ssl.SSLError, OSError) as error:
        raise ValueError(f"tls_ca = {ca!r}: {_words(error)}") from None


def _no_password() -> str:
    """Keep OpenSSL from asking for a password on the terminal."""
    raise ValueError("a key with a password can't be used")


def _words(error: Exception) -> str:
    reason = getattr(error, "reason", None) or str(error)
    return f"not usable PEM ({reason})"
