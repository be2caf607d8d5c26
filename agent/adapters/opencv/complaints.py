"""What FFmpeg writes to standard error, put into words for an operator.

OpenCV itself only says that opening failed; the reason is in FFmpeg's log. Patterns are those of
FFmpeg 5 to 8 (``libavformat/{rtsp,http,network,tcp}.c``, ``libavcodec/h264*.c``).
"""

import re

from agent.camera_url import redact

_EXPLANATIONS = (
    (
        r"401 Unauthorized|401 Authorization|Authorization required",
        "wrong user name or password (401 Unauthorized); check the camera's credentials",
    ),
    (r"\b403 Forbidden", "the camera refuses access (403 Forbidden); check the rights of this account"),
    (r"\b404 Not Found", "the camera has no such stream (404 Not Found); check the path of the URL"),
    (r"\b453 Not Enough", "the camera has no bandwidth left for another viewer (453); close other viewers"),
    (r"\b503 Service", "the camera refuses another viewer (503); close other viewers"),
    (r"(?:failed:|HTTP error) [45]\d\d .+", "the camera answered with an error: {line}"),
    (
        r"Failed to resolve hostname|Name or service not known|Temporary failure in name resolution",
        "the host name cannot be resolved; check the URL and the store's DNS",
    ),
    (
        r"Connection refused",
        "connection refused: nothing listens on that port; check that the camera is on and the port is right",
    ),
    (
        r"No route to host|Network is unreachable|Host is unreachable",
        "the host cannot be reached; check network and address",
    ),
    (
        r"Connection timed out|Stream timeout triggered|Immediate exit requested",
        "the camera does not answer; check that it is on",
    ),
    (r"Connection reset by peer|Broken pipe", "the camera closed the connection"),
    (r"certificate|TLS|SSL", "no secure connection could be made: {line}"),
    (r"not on whitelist", "the stream points to an address of another kind, which is not followed"),
    (
        (
            r"moov atom not found|Invalid data found|could not find codec parameters"
            r"|Stream ends prematurely|detected only with low score"
        ),
        "what it sends is not a video that can be decoded; check the path of the URL",
    ),
    (r"Permission denied", "permission denied; let the agent's user read it"),
    (r"can't open camera by index|Cannot open device|VIDIOC", "no such webcam, or another program uses it"),
)
_COMPILED = tuple((re.compile(pattern, re.IGNORECASE), text) for pattern, text in _EXPLANATIONS)
_DECODER = re.compile(
    r"^Corrupt JPEG data|^Premature end of JPEG"
    r"|^\[(?:h264|hevc|vvc|av1|libdav1d|mpeg4|mpeg2video|mjpeg|vp8|vp9|rtsp|rtp|jpeg\w*) @ ",
    re.IGNORECASE,
)
_HARMLESS = re.compile(
    r"deprecated pixel format|Could not update timestamps|Application provided invalid|"
    r"Timestamps are unset|non monoton|DTS|getaddrinfo|Keepalive|detected only with low score|"
    r"Last message repeated",
    re.IGNORECASE,
)
_PREFIX = re.compile(r"^(?:\[[^\]]*\] ?)+")
_LONGEST = 160


def explain(lines: list[str], fallback: str) -> str:
    """Why a camera could not be opened or read, from the log lines of the attempt, oldest first."""
    plain_lines = [redact(_PREFIX.sub("", line)).strip()[:_LONGEST] for line in lines]
    for pattern, text in _COMPILED:
        for line in plain_lines:
            if pattern.search(line):
                return text.format(line=line)
    return fallback


def is_decode_error(line: str) -> bool:
    """Whether a log line says that a picture could not be decoded whole."""
    return _DECODER.match(line) is not None and _HARMLESS.search(line) is None
