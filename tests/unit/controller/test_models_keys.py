"""The signing key: made once, private, and never usable when others could have read it."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from contract.signing import load_public_keys, verify
from controller.errors import PermanentError
from controller.models.keys import KEY_FILE, PUBLIC_FILE, TRUSTED_FILE, SigningKey


def test_key_is_made_at_first_use_and_stays(tmp_path: Path) -> None:
    directory = tmp_path / "keys"
    first = SigningKey.load_or_create(directory)
    second = SigningKey.load_or_create(directory)
    assert first.public_pem == second.public_pem == (directory / PUBLIC_FILE).read_bytes()
    assert (directory / KEY_FILE).stat().st_mode & 0o777 == 0o600
    assert verify(first.sign("manifest"), load_public_keys(second.trusted_pem)) == "manifest"


def test_rotation_keeps_trusting_the_old_key(tmp_path: Path) -> None:
    old = SigningKey.load_or_create(tmp_path)
    signed = old.sign("manifest")
    (tmp_path / TRUSTED_FILE).write_bytes(old.public_pem)
    (tmp_path / KEY_FILE).unlink()
    new = SigningKey.load_or_create(tmp_path)
    assert new.public_pem != old.public_pem
    trusted = load_public_keys(new.trusted_pem)
    assert verify(signed, trusted) == verify(new.sign("manifest"), trusted) == "manifest"


def test_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    SigningKey.load_or_create(tmp_path)
    (tmp_path / KEY_FILE).chmod(0o640)
    with pytest.raises(PermanentError, match="can be read by others"):
        SigningKey.load_or_create(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a key",
        generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    ],
    ids=["empty", "text", "other-algorithm"],
)
def test_unusable_key_file_is_refused_and_not_replaced(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / KEY_FILE
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(PermanentError, match=str(path)):
        SigningKey.load_or_create(tmp_path)
    assert path.read_bytes() == content


def test_trusted_file_must_hold_public_keys(tmp_path: Path) -> None:
    (tmp_path / TRUSTED_FILE).write_bytes(b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")
    key = SigningKey.load_or_create(tmp_path)
    with pytest.raises(PermanentError, match=TRUSTED_FILE):
        _ = key.trusted_pem


def test_repr_shows_nothing(tmp_path: Path) -> None:
    assert repr(SigningKey.load_or_create(tmp_path)) == "SigningKey(…)"
