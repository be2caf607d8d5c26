"""Camera addresses: filling in secrets, and keeping them out of everything an operator or a log sees.

A configuration names a password only as ``${CAMERA_PASSWORD}``. It is filled in here, at the last
moment, and from then on lives in memory only: workers get it through a pipe, and whatever a decoder
says passes through ``redact``.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import quote, unquote, urlsplit

from agent.errors import CameraError

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_USERINFO = re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://)[^\s/?#'\"]*@")
_SECRET_PARAMETER = re.compile(r"(?i)([?&;](?:pass(?:word|wd)?|pwd|token|auth|key|secret|sid)=)[^&;\s'\"]*")

SourceKind = Literal["rtsp", "http", "file", "device"]
_KINDS: dict[str, SourceKind] = {
    "rtsp": "rtsp",
    "rtsps": "rtsp",
    "http": "http",
    "https": "http",
    "file": "file",
    "device": "device",
}


@dataclass(frozen=True, slots=True)
class CameraAddress:
    kind: SourceKind
    target: str = field(repr=False)
    """What the decoder opens: a URL with its secrets filled in, a path, or the index of a webcam."""
    shown: str
    """The same for human eyes, without user name or password."""


def expand(url: str, environment: Mapping[str, str]) -> str:
    """Replace ``${NAME}`` by its value, percent-encoded where it stands before the host's ``@``.

    A password may hold ``@``, ``:`` or ``/``; put raw into a URL it would change the host. Raises
    ``CameraError`` naming a variable that is not set.
    """
    authority_end = url.rfind("@")

    def value(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in environment:
            raise CameraError(
                f"camera URL {redact(url)}: environment variable {name} is not set; "
                "give the agent the secret that holds it"
            )
        text = environment[name]
        return quote(text, safe="") if match.end() <= authority_end else text

    return _VARIABLE.sub(value, url)


def parse(url: str, environment: Mapping[str, str]) -> CameraAddress:
    """Check and expand a camera URL. Raises ``CameraError`` that says what to write instead."""
    full = expand(url, environment)
    shown = redact(full)
    try:
        parts = urlsplit(full)
        kind = _KINDS.get(parts.scheme)
        host = parts.hostname
        _ = parts.port
    except ValueError as error:
        raise CameraError(f"camera URL {shown} cannot be read: {error}") from error
    if kind is None:
        raise CameraError(
            f"camera URL {shown}: unknown scheme {parts.scheme!r}; use {', '.join(sorted(_KINDS))}"
        )
    if any(ord(c) < 0x20 for c in full):
        raise CameraError(f"camera URL {shown!r} holds control characters")
    if kind == "device":
        index = full.partition(":")[2]
        if not index.isdecimal() or len(index) > 3:
            raise CameraError(
                f"camera URL {shown}: write device:0 for the first webcam, device:1 for the next"
            )
        return CameraAddress("device", index, shown)
    if kind == "file":
        path = unquote(parts.path)
        if not path or host:
            raise CameraError(f"camera URL {shown}: write file:/path/to/video.mp4")
        return CameraAddress("file", path, shown)
    if not host:
        raise CameraError(f"camera URL {shown} names no host; write {parts.scheme}://HOST[:PORT]/PATH")
    return CameraAddress(kind, full, shown)


def redact(text: str) -> str:
    """``text`` without user names and passwords of URLs and without secret-looking parameters."""
    return _SECRET_PARAMETER.sub(r"\1***", _USERINFO.sub(r"\1", text))
