"""A Mosquitto of the demo's own: free port, one credential per store, each confined to its prefix."""

import os
import secrets
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from contract.topics import DEPLOYER, PREFIX
from storefleet.demo.processes import DemoError

CENTRE_USER = "centre"


@dataclass(frozen=True, slots=True)
class BrokerFiles:
    """Where the broker's files are, and the passwords that it knows."""

    config: Path
    port: int
    passwords: dict[str, str] = field(repr=False)
    """By user name: ``centre`` and one per store."""

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    @property
    def command(self) -> list[str]:
        return [_find("mosquitto"), "-c", str(self.config)]


def write_broker_files(
    directory: Path, stores: Sequence[str], port: int, listen: str = "127.0.0.1"
) -> BrokerFiles:
    """Write configuration, password file (hashed) and access list. ``listen``: the address to listen on;
    ``0.0.0.0`` for stores elsewhere. Raises ``DemoError``."""
    directory.mkdir(parents=True, exist_ok=True)
    passwords = {user: secrets.token_urlsafe(24) for user in (CENTRE_USER, *stores)}
    password_file = directory / "passwords"
    password_file.touch(mode=0o600)
    with password_file.open("w") as file:
        file.writelines(f"{user}:{password}\n" for user, password in passwords.items())
    # -U hashes the file in place, so that no password appears among the arguments of a process.
    subprocess.run([_find("mosquitto_passwd"), "-U", str(password_file)], check=True, capture_output=True)
    acl_file = directory / "acl"
    acl_file.write_text(access_list(stores))
    acl_file.chmod(0o600)
    config = directory / "mosquitto.conf"
    config.write_text(
        f"""\
listener {port} {listen}
allow_anonymous false
password_file {password_file}
acl_file {acl_file}
persistence true
persistence_location {directory}/
autosave_interval 10
max_queued_messages 100000
max_packet_size 524288
user {_current_user()}
log_dest stderr
"""
    )
    return BrokerFiles(config, port, passwords)


def access_list(stores: Sequence[str]) -> str:
    """Mosquitto access list: a store may write and read only under its own prefix."""
    centre = (
        f"topic read {PREFIX}/#\ntopic write {PREFIX}/+/+/acks\ntopic write {PREFIX}/+/{DEPLOYER}/desired\n"
        f"topic readwrite {PREFIX}/+/staging\ntopic readwrite {PREFIX}/+/shadow\n"
    )
    parts = [f"user {CENTRE_USER}\n{centre}"]
    for store in stores:
        own = f"{PREFIX}/{store}/+"
        parts.append(
            f"user {store}\n"
            f"topic readwrite {own}/state\ntopic write {own}/telemetry\ntopic write {own}/events\n"
            f"topic write {own}/cameras/+/status\ntopic read {own}/acks\n"
            f"topic write {own}/golden\n"
            f"topic read {PREFIX}/{store}/staging\ntopic read {PREFIX}/{store}/shadow\n"
            f"topic read {PREFIX}/{store}/{DEPLOYER}/desired\n"
            f"topic write {PREFIX}/{store}/{DEPLOYER}/reported\n"
        )
    return "\n".join(parts)


def _current_user() -> str:
    return "root" if os.geteuid() == 0 else os.environ.get("USER", "mosquitto")


def _find(program: str) -> str:
    # Debian keeps the broker in /usr/sbin, which is not in every user's PATH.
    found = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if found is None:
        raise DemoError(f"{program} is not installed; run scripts/setup.sh (make demo does)")
    return found
