"""Camera addresses: secrets are filled in, and never shown."""

from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.camera_url import parse, redact
from agent.errors import CameraError


@pytest.mark.parametrize(
    ("url", "kind", "target"),
    [
        ("rtsp://10.0.0.4:554/stream", "rtsp", "rtsp://10.0.0.4:554/stream"),
        ("rtsps://cam.local/s?ch=1", "rtsp", "rtsps://cam.local/s?ch=1"),
        ("https://cam.local/mjpeg", "http", "https://cam.local/mjpeg"),
        ("file:/videos/a%20b.mp4", "file", "/videos/a b.mp4"),
        ("file:///videos/a.mp4", "file", "/videos/a.mp4"),
        ("file:relative.mp4", "file", "relative.mp4"),
        ("device:0", "device", "0"),
    ],
)
def test_each_kind_of_address_is_understood(url: str, kind: str, target: str) -> None:
    address = parse(url, {})
    assert (address.kind, address.target) == (kind, target)


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("ftp://cam/x", "unknown scheme 'ftp'"),
        ("cam.local/x", "unknown scheme"),
        ("rtsp:///stream", "names no host"),
        ("rtsp://cam:port/x", "cannot be read"),
        ("rtsp://[::1/x", "cannot be read"),
        ("device:front", "write device:0"),
        ("device:12345", "write device:0"),
        ("file:", "write file:/path"),
        ("file://host/a.mp4", "write file:/path"),
        ("rtsp://viewer:${NO_SUCH_PASSWORD}@cam/x", "NO_SUCH_PASSWORD is not set"),
        ("rtsp://cam/x\nSETUP", "control characters"),
    ],
)
def test_an_impossible_address_is_refused_with_a_remedy(url: str, complaint: str) -> None:
    with pytest.raises(CameraError) as refused:
        parse(url, {})
    assert complaint in str(refused.value)


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=40))
def test_any_password_reaches_the_same_host_and_is_never_shown(password: str) -> None:
    address = parse("rtsp://viewer:${CAM_PASSWORD}@10.0.0.4:554/s", {"CAM_PASSWORD": password + "§"})
    parts = urlsplit(address.target)
    assert (parts.hostname, parts.port, parts.path) == ("10.0.0.4", 554, "/s")
    assert address.shown == "rtsp://10.0.0.4:554/s"
    assert "viewer" not in repr(address)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("open rtsp://u:p@cam/x failed", "open rtsp://cam/x failed"),
        ("'http://u:p%40q@cam:80/x?a=1'", "'http://cam:80/x?a=1'"),
        ("http://cam/x?user=a&password=b&c=1", "http://cam/x?user=a&password=***&c=1"),
        ("rtsp://u:p@q@cam/x", "rtsp://cam/x"),
        ("http://cam/a@b", "http://cam/a@b"),
    ],
)
def test_redacting_removes_credentials_and_nothing_else(text: str, shown: str) -> None:
    assert redact(text) == shown
