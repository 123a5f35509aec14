"""A Kafka as companies run it: TLS with certificates of a CA of its own, logins, and an authorizer that allows nothing by itself."""

from __future__ import annotations

import ipaddress
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from support.environment import setting
from support.servers import Server, free_ports, wait_for_kafka

from tidemark.local.programs import PROGRAMS, _kafka_java, kafka_properties
from tidemark.settings import Settings, settings
from tidemark.settings.kafka_clients import librdkafka_options
from tidemark.settings.kafka_rights import GROUP_RIGHTS, TOPIC_RIGHTS

PLAIN_PROGRAMS = ("api", "stream")  # the others log in by SCRAM
ADMIN_PASSWORD = "the-administrators"
KEY_PASSWORD = "of the key"
CERTIFIED = "tidemark"  # common name of the client certificate

_CLUSTER = "TidemarkTestSecuredAAA"  # Kafka's form of a UUID: 22 characters of Base64
_READY_SECONDS = 30.0


def password(program: str) -> str:
    """With characters that mean something in JAAS, JSON and the shell, where a broker's file of properties need not hold it."""
    return f"plain-{program}" if program in PLAIN_PROGRAMS else f"{program} s\"e\\c=r$e{{t}};,%'ß"


def account(program: str) -> dict[str, str]:
    """The settings of a program's own account."""
    mechanism = "PLAIN" if program in PLAIN_PROGRAMS else "SCRAM-SHA-512"
    return {"kafka_user": f"tidemark-{program}", "kafka_password": password(program), "kafka_sasl_mechanism": mechanism}


@dataclass(frozen=True)
class Secured:
    """A running broker. The settings name it, with the account of its administrator."""

    folder: Path
    certified_address: str

    @property
    def certificate(self) -> dict[str, str]:
        """The settings of a client that has a certificate instead of an account."""
        return {
            "kafka_bootstrap_servers": self.certified_address,
            "kafka_security_protocol": "SSL",
            "kafka_user": "",
            "kafka_password": "",
            "kafka_certificate_file": str(self.folder / "client.pem"),
            "kafka_key_file": str(self.folder / "client.key"),
            "kafka_key_password": KEY_PASSWORD,
        }


@contextmanager
def secured_broker(folder: Path) -> Iterator[Secured]:
    """It has the account of each program, with the rights of `kafka_rights` on the topics of the settings."""
    login, certified, controller = free_ports(3)
    write_certificates(folder)
    of = settings().model_copy(update={"home": folder, "kafka_port": login, "kafka_controller_port": controller})
    properties = folder / "server.properties"
    properties.write_text(_properties(kafka_properties(of), folder, login, certified))
    form = _kafka_java(of, "256m", "kafka.tools.StorageTool", "format", "-t", _CLUSTER, "-c", str(properties))
    run = _kafka_java(of, "384m", "kafka.Kafka", str(properties))
    subprocess.run(form, check=True, capture_output=True)
    (program,) = [one for one in PROGRAMS if one.name == "kafka"]
    server = Server(replace(program, before=(), command=lambda _: run), folder / "kafka.log", of)
    server.start()
    administrator = {
        "kafka_bootstrap_servers": f"127.0.0.1:{login}",
        "kafka_security_protocol": "SASL_SSL",
        "kafka_sasl_mechanism": "PLAIN",
        "kafka_user": "admin",
        "kafka_password": ADMIN_PASSWORD,
        "kafka_ca_file": str(folder / "ca.pem"),
    }
    try:
        with setting(**administrator) as now:
            wait_for_kafka(now, server.log, server)
            _create_accounts(now)
            yield Secured(folder, f"127.0.0.1:{certified}")
    finally:
        server.stop()


def _properties(plain: str, folder: Path, login: int, certified: int) -> str:
    users = " ".join(f'user_tidemark-{program}="{password(program)}"' for program in PLAIN_PROGRAMS)
    admin = f'username="admin" password="{ADMIN_PASSWORD}" user_admin="{ADMIN_PASSWORD}"'
    security = "org.apache.kafka.common.security"
    changed = {
        "listeners": f"LOGIN://127.0.0.1:{login},CERTIFIED://127.0.0.1:{certified},{_controller(plain)}",
        "advertised.listeners": f"LOGIN://127.0.0.1:{login},CERTIFIED://127.0.0.1:{certified}",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,LOGIN:SASL_SSL,CERTIFIED:SSL",
        "inter.broker.listener.name": "LOGIN",
        "sasl.mechanism.inter.broker.protocol": "PLAIN",
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
        "listener.name.login.plain.sasl.jaas.config": f"{security}.plain.PlainLoginModule required {admin} {users};",
        "listener.name.login.scram-sha-512.sasl.jaas.config": f"{security}.scram.ScramLoginModule required;",
        "listener.name.certified.ssl.client.auth": "required",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": folder / "server.pem",
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": folder / "ca.pem",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:admin;User:ANONYMOUS",  # nobody is anonymous but the controller's listener, which only this broker uses
    }
    kept = [line for line in plain.splitlines() if line.partition("=")[0] not in changed]
    return "\n".join([*kept, *(f"{name}={value}" for name, value in changed.items())]) + "\n"


def _controller(properties: str) -> str:
    (listeners,) = [line.partition("=")[2] for line in properties.splitlines() if line.startswith("listeners=")]
    return listeners.rpartition(",")[2]


def _create_accounts(of: Settings) -> None:
    """Creates the accounts and their rights, and waits until the broker goes by them."""
    client = AdminClient(librdkafka_options(of))
    scram = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
    new = [
        UserScramCredentialUpsertion(f"tidemark-{program}", scram, password(program).encode())
        for program in TOPIC_RIGHTS
        if program not in PLAIN_PROGRAMS
    ]
    for done in client.alter_user_scram_credentials(new).values():
        done.result()
    rights = _rights(of)
    for made in client.create_acls(rights).values():
        made.result()
    everything = AclBindingFilter(ResourceType.ANY, None, ResourcePatternType.ANY, None, None, AclOperation.ANY, AclPermissionType.ANY)
    until = time.monotonic() + _READY_SECONDS
    while len(client.describe_acls(everything).result()) < len(rights):
        assert time.monotonic() < until, "the broker does not know the rights"
        time.sleep(0.05)


def _rights(of: Settings) -> list[AclBinding]:
    topics = [
        _right(ResourceType.TOPIC, topic, f"tidemark-{program}", operation)
        for program, operations in TOPIC_RIGHTS.items()
        for operation in operations
        for topic in of.topics
    ]
    groups = [
        _right(ResourceType.GROUP, group, f"tidemark-{program}", operation)
        for program, those in GROUP_RIGHTS.items()
        for group, operations in those.items()
        for operation in operations
    ]
    certified = [_right(ResourceType.TOPIC, topic, f"CN={CERTIFIED}", operation) for operation in ("READ", "WRITE") for topic in of.topics]
    return [*topics, *groups, *certified]


def _right(kind: ResourceType, name: str, user: str, operation: str) -> AclBinding:
    return AclBinding(kind, name, ResourcePatternType.LITERAL, f"User:{user}", "*", AclOperation[operation], AclPermissionType.ALLOW)


def write_certificates(folder: Path) -> None:
    """ca.pem; server.pem with its key, for 127.0.0.1; client.pem, and client.key with a password."""
    ca_key, ca_name = _key(), _named("Tidemark's test CA")
    ca = _certificate(ca_name, ca_key, ca_name, ca_key, [x509.BasicConstraints(ca=True, path_length=None)])
    (folder / "ca.pem").write_bytes(ca.public_bytes(Encoding.PEM))
    server_key, client_key = _key(), _key()
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    server = _certificate(_named("broker"), server_key, ca_name, ca_key, [address])
    plain_key = server_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "server.pem").write_bytes(plain_key + server.public_bytes(Encoding.PEM))
    client = _certificate(_named(CERTIFIED), client_key, ca_name, ca_key, [])
    (folder / "client.pem").write_bytes(client.public_bytes(Encoding.PEM))
    encryption = BestAvailableEncryption(KEY_PASSWORD.encode())
    (folder / "client.key").write_bytes(client_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))


def _key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _named(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _certificate(
    subject: x509.Name, key: rsa.RSAPrivateKey, issuer: x509.Name, issuer_key: rsa.RSAPrivateKey, extensions: Sequence[x509.ExtensionType]
) -> x509.Certificate:
    now = datetime.now(UTC)
    made = x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    for extension in extensions:
        made = made.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
    return made.sign(issuer_key, hashes.SHA256())
