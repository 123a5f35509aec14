"""The files that the Kafka settings name. Each function raises ValueError, which says what is wrong with the file and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

_CERTIFICATE = "-----BEGIN CERTIFICATE-----"

# What other settings decide: a file of properties may not contradict them.
_DECIDED = {
    *("bootstrap.servers", "metadata.broker.list", "security.protocol"),
    *("sasl.mechanism", "sasl.mechanisms", "sasl.username", "sasl.password", "sasl.jaas.config"),
}
_DECIDED_PREFIXES = ("ssl.ca.", "ssl.certificate.", "ssl.key.", "ssl.keystore.", "ssl.truststore.")


def read_certificates(variable: str, file: Path) -> str:
    """The content of a PEM file that contains certificates."""
    content = _content(variable, file)
    if _CERTIFICATE not in content:
        raise ValueError(f"{variable}={file} contains no certificate: set it to a PEM file, which has a line {_CERTIFICATE}")
    return content


def read_key(variable: str, file: Path, password: str) -> str:
    """The private key of a PEM file as PKCS#8 without a password, the only form that Java reads in every version."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

    content = _content(variable, file).encode()
    try:
        key = load_pem_private_key(content, password.encode() or None)
    except TypeError:
        how = "has no password: remove" if password else "has a password: set"
        raise ValueError(f"the private key {variable}={file} {how} TIDEMARK_KAFKA_KEY_PASSWORD") from None
    except (ValueError, UnsupportedAlgorithm):
        if password:
            raise ValueError(f"{variable}={file} is no private key, or has another password: check TIDEMARK_KAFKA_KEY_PASSWORD") from None
        raise ValueError(f"{variable}={file} is no private key in a PEM file: convert it with openssl pkey") from None
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def read_properties(variable: str, file: Path) -> dict[str, str]:
    """The properties of a file of lines `name=value`; empty lines and lines that begin with # do not count."""
    return dict(_properties(variable, file))


def _properties(variable: str, file: Path) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(_content(variable, file).splitlines(), start=1):
        name, equals, value = (part.strip() for part in line.partition("="))
        if not name + equals or name.startswith("#"):
            continue
        if not (name and equals):  # the line may hold a secret, so the message does not show it
            raise ValueError(f"line {number} of {variable}={file} is not name=value: correct it")
        if name in _DECIDED or name.startswith(_DECIDED_PREFIXES):
            raise ValueError(
                f"line {number} of {variable}={file} sets {name}, which has settings of its own (TIDEMARK_KAFKA_...): use those"
            )
        yield name, value


def _content(variable: str, file: Path) -> str:
    try:
        return file.read_text()
    except OSError as error:
        raise ValueError(f"{variable}={file} cannot be read ({error.strerror}): check the path and its permissions") from None
    except UnicodeDecodeError:
        raise ValueError(f"{variable}={file} is not a text file: set it to one (certificates and keys are PEM files)") from None
