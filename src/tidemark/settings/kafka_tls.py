"""Why a TLS connection to Kafka fails. kafka-python only says that it got none."""

from __future__ import annotations

import socket
import ssl

from tidemark.settings.sections import KafkaSettings


def tls_problem(of: KafkaSettings, within_seconds: float) -> str | None:
    """What is wrong with the TLS handshake with the first server that answers, and what to do; None if nothing is, or none answers."""
    if not of.kafka_has_tls:
        return None
    context = _context(of)
    for server in of.kafka.split(","):
        host, _, port = server.strip().rpartition(":")
        host = host.strip("[]")
        try:
            with (
                socket.create_connection((host, int(port)), within_seconds) as plain,
                context.wrap_socket(plain, server_hostname=host) as connection,
            ):
                connection.getpeercert()
                return None
        except ssl.SSLCertVerificationError as error:
            trusted = (
                f"TIDEMARK_KAFKA_CA_FILE={of.kafka_ca_file}" if of.kafka_ca_file else "this system's CAs (TIDEMARK_KAFKA_CA_FILE is empty)"
            )
            return (
                f"the certificate of {server} is not accepted by {trusted}: {error.verify_message}. "
                "Set TIDEMARK_KAFKA_CA_FILE to the certificate of the CA that has signed it, and use the server's name in the certificate"
            )
        except ssl.SSLError as error:
            return (
                f"the TLS handshake with {server} fails: {error.reason or error}. "
                "Check that this port takes TLS (TIDEMARK_KAFKA_SECURITY_PROTOCOL) and whether it requires a client certificate"
            )
        except (OSError, ValueError):
            continue
    return None


def _context(of: KafkaSettings) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=of.kafka_ca_file)
    if of.kafka_certificate_file:
        context.load_cert_chain(of.kafka_certificate_file, of.kafka_key_file, of.kafka_key_password.get_secret_value() or None)
    return context
