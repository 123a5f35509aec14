"""The certificate of the proxy in Compose: `python -m tidemark.local.certificate` puts it under home, the one that was given or a
self-signed one.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat, load_pem_private_key
from cryptography.x509.oid import NameOID

from tidemark.local.kept_secrets import write
from tidemark.settings import Settings, settings
from tidemark.settings.hosts import trusted_hosts

CERTIFICATE, KEY = "certificate.pem", "key.pem"
VALID_DAYS = 398  # what browsers accept at most
RENEWED_DAYS = 30  # before its end
_ADVICE = f"put {CERTIFICATE} and {KEY} of your own into the folder of TIDEMARK_CERTIFICATES (in Compose TIDEMARK_CERTIFICATES_FOLDER)"

log = logging.getLogger("tidemark.certificate")


class UnusableCertificate(Exception):
    """The certificate that was given cannot be used; the message says why and what to do."""


def provide(of: Settings, now: datetime) -> Path:
    """The folder of certificate.pem and key.pem: a copy of those given, or a self-signed certificate, which is kept until it nears its
    end or the names change. Raises UnusableCertificate.
    """
    folder, given = of.home / "certificate", Path(of.certificates) if of.certificates else None
    if given and ((given / CERTIFICATE).exists() or (given / KEY).exists()):
        certificate, key = _checked(given, now)
        log.info("the proxy uses the certificate in %s", given)
    else:
        names = trusted_hosts(of, "127.0.0.1", of.airflow_public_url, of.superset_public_url)
        names = list(dict.fromkeys(name.strip("[]") for name in names))
        if _is_usable(folder / CERTIFICATE, names, now) and (folder / KEY).exists():
            log.warning("the proxy uses the self-signed certificate made before, which browsers do not trust; %s", _ADVICE)
            return folder
        certificate, key = _self_signed(names, now)
        log.warning("the proxy uses a self-signed certificate for %s, which browsers do not trust; %s", ", ".join(names), _ADVICE)
    write(folder / KEY, key)
    write(folder / CERTIFICATE, certificate)
    return folder


def _checked(folder: Path, now: datetime) -> tuple[str, str]:
    try:
        certificate, key = (folder / CERTIFICATE).read_text(), (folder / KEY).read_text()
        first = x509.load_pem_x509_certificates(certificate.encode())[0]
        own = load_pem_private_key(key.encode(), None).public_key()
    except (OSError, ValueError, TypeError) as error:
        raise UnusableCertificate(
            f"the certificate in {folder} cannot be used: {error}. Put {CERTIFICATE}, with its chain, and {KEY}, without a password, "
            "there, readable by this user"
        ) from None
    encoding = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if own.public_bytes(*encoding) != first.public_key().public_bytes(*encoding):
        raise UnusableCertificate(f"{folder / KEY} is not the key of {folder / CERTIFICATE}: put both files of one certificate there")
    if first.not_valid_after_utc <= now:
        raise UnusableCertificate(f"{folder / CERTIFICATE} expired at {first.not_valid_after_utc:%Y-%m-%d %H:%M} UTC: renew it")
    return certificate, key


def _is_usable(file: Path, names: Sequence[str], now: datetime) -> bool:
    if not file.exists():
        return False
    found = x509.load_pem_x509_certificate(file.read_bytes())
    same = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value == _alternatives(names)
    return same and found.not_valid_after_utc > now + timedelta(days=RENEWED_DAYS)


def _self_signed(names: Sequence[str], now: datetime) -> tuple[str, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Tidemark, self-signed")])
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=VALID_DAYS - 1))
    made = made.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    made = made.add_extension(_alternatives(names), critical=False)
    text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode(), text


def _alternatives(names: Sequence[str]) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([_alternative(name) for name in names])


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stdout)
    try:
        provide(settings(), datetime.now(UTC))
    except UnusableCertificate as reason:
        log.error(reason)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
