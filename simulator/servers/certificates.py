"""Certificates for servers on this machine."""

from __future__ import annotations

__all__ = ["Certificates", "make_certificates"]

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from simulator.servers.errors import ServerUnavailable

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

#: How long certificates are good: longer than servers for tests live.
_VALID = timedelta(days=30)
#: Clocks of other machines may be behind.
_BEFORE = timedelta(hours=1)


@dataclass(frozen=True)
class Certificates:
    """Files of an authority of its own, a server and a client.

    Attributes
    ----------
    ca : `pathlib.Path`
        The authority's certificate, PEM: what clients trust.
    server_store : `pathlib.Path`
        Key and certificate of the server, PKCS12, as Java reads it.
    trust_store : `pathlib.Path`
        The authority's certificate, PKCS12: what the server trusts.
    client_certificate, client_key : `pathlib.Path`
        A client's certificate and key, PEM.
    password : `str`
        Of the stores.
    """

    ca: Path
    server_store: Path
    trust_store: Path
    client_certificate: Path
    client_key: Path
    password: str


def make_certificates(directory: Path, *, host: str, password: str) -> Certificates:
    """Make an authority and what it signs, unless they are there.

    Parameters
    ----------
    directory : `pathlib.Path`
    host : `str`
        Address that the server's certificate is for, beside ``localhost``.
    password : `str`
        Of the PKCS12 stores.

    Raises
    ------
    simulator.servers.errors.ServerUnavailable
        Raised without the package ``cryptography``.
    """
    made = Certificates(
        ca=directory / "ca.pem",
        server_store=directory / "server.p12",
        trust_store=directory / "trusted.p12",
        client_certificate=directory / "client.pem",
        client_key=directory / "client.key",
        password=password,
    )
    if made.ca.exists():
        return made
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.serialization import pkcs12
    except ImportError as error:
        raise ServerUnavailable(
            "without the package cryptography no certificates can be made; install it"
        ) from error
    directory.mkdir(parents=True, exist_ok=True)
    ca_key, server_key, client_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
    ca = _sign("Servers to practise with", ca_key, None, ca_key, [])
    names: list[x509.GeneralName] = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address(host))]
    server = _sign("localhost", server_key, ca, ca_key, names)
    client = _sign("agent", client_key, ca, ca_key, [])
    sealed = serialization.BestAvailableEncryption(password.encode())
    made.server_store.write_bytes(
        pkcs12.serialize_key_and_certificates(b"server", server_key, server, [ca], sealed)
    )
    made.trust_store.write_bytes(
        pkcs12.serialize_java_truststore([pkcs12.PKCS12Certificate(ca, b"ca")], sealed)
    )
    made.client_certificate.write_bytes(client.public_bytes(serialization.Encoding.PEM))
    made.client_key.write_bytes(
        client_key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    # Last: it says that all are there.
    made.ca.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    return made


def _sign(
    name: str,
    key: EllipticCurvePrivateKey,
    issuer: x509.Certificate | None,
    issuer_key: EllipticCurvePrivateKey,
    names: list[x509.GeneralName],
) -> x509.Certificate:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BEFORE)
        .not_valid_after(now + _VALID)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
        )
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                key_cert_sign=issuer is None,
                crl_sign=issuer is None,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())
