"""Keys and certificates of a store's control plane, and of users that tests make up. Uses openssl."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from k3s.testbed.commands import run

DAYS = 365


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority in ``directory`` (made on first use), and what it has signed."""

    directory: Path

    @property
    def certificate(self) -> Path:
        return self.directory / "ca.crt"

    @property
    def key(self) -> Path:
        return self.directory / "ca.key"

    def create(self, name: str) -> None:
        if self.certificate.exists():
            return
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        run(
            [
                *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", str(DAYS)),
                *("-subj", f"/CN={name}", "-keyout", self.key, "-out", self.certificate),
            ]
        )

    def issue(
        self,
        file: str,
        name: str,
        *,
        organisations: Sequence[str] = (),
        addresses: Sequence[str] = (),
        names: Sequence[str] = (),
        expired: bool = False,
    ) -> tuple[Path, Path]:
        """Certificate and key, as files named ``file``. Kubernetes takes ``name`` for the user and
        ``organisations`` for the groups. One that is there already is kept, unless ``expired``."""
        certificate, key = self.directory / f"{file}.crt", self.directory / f"{file}.key"
        if certificate.exists() and not expired:
            return certificate, key
        subject = "".join(f"/O={organisation}" for organisation in organisations) + f"/CN={name}"
        alternatives = [f"IP:{address}" for address in addresses] + [f"DNS:{dns}" for dns in names]
        with TemporaryDirectory() as scratch:
            request, extensions = Path(scratch) / "request", Path(scratch) / "extensions"
            extensions.write_text(
                "extendedKeyUsage = clientAuth, serverAuth\n"
                + (f"subjectAltName = {', '.join(alternatives)}\n" if alternatives else "")
            )
            make_key(key)
            run(["openssl", "req", "-new", "-key", key, "-subj", subject, "-out", request])
            run(
                [
                    *("openssl", "x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self.key),
                    *("-set_serial", f"0x{secrets.token_hex(8)}", "-days", "0" if expired else str(DAYS)),
                    *("-extfile", extensions, "-out", certificate),
                ]
            )
        return certificate, key


def make_key(path: Path) -> None:
    """An RSA key, which service accounts need; a key that is there already is kept."""
    if not path.exists():
        run(["openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", path])
        path.chmod(0o600)
