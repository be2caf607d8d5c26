"""FFmpeg's log lines, put into words."""

import pytest

from agent.adapters.opencv.complaints import explain, is_decode_error


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("[rtsp @ 0x55] method DESCRIBE failed: 401 Unauthorized", "wrong user name or password"),
        ("[http @ 0x56] HTTP error 401 Unauthorized", "wrong user name or password"),
        ("[http @ 0x56] HTTP error 403 Forbidden", "refuses access"),
        ("[rtsp @ 0x55] method DESCRIBE failed: 404 Not Found", "no such stream"),
        ("[rtsp @ 0x55] method SETUP failed: 453 Not Enough Bandwidth", "no bandwidth left"),
        ("[rtsp @ 0x55] method PLAY failed: 454 Session Not Found", "454 Session Not Found"),
        ("[tcp @ 0x1] Connection to tcp://127.0.0.1:1?timeout=0 failed: Connection refused", "refused"),
        ("[tcp @ 0x5] Failed to resolve hostname a.invalid: Name or service not known", "cannot be resolved"),
        ("[tcp @ 0x1] Connection to tcp://10.9.9.9:554 failed: No route to host", "cannot be reached"),
        (
            "[ WARN:0@3.0] global cap_ffmpeg_impl.hpp:453 _cb Stream timeout triggered after 3007.9 ms",
            "not answer",
        ),
        ("[mov,mp4,m4a,3gp,3g2,mj2 @ 0x404 ] moov atom not found", "not a video"),
        ("[http @ 0x1] Protocol 'file' not on whitelist 'http,tcp'!", "not followed"),
        ("[h264 @ 0x1] nothing that is known", "fallback"),
    ],
)
def test_a_reason_is_found_in_the_log(line: str, said: str) -> None:
    assert said in explain(["[rtsp @ 0x1] something else", line], "fallback")


def test_an_answer_of_the_camera_outweighs_what_followed_from_it() -> None:
    lines = [
        "[http @ 0x5] HTTP error 401 Unauthorized",
        "[in @ 0x5] Invalid data found when processing input",
    ]
    assert "401" in explain(lines, "")


def test_credentials_in_the_log_are_not_passed_on() -> None:
    line = "[tls @ 0x1] certificate of https://viewer:hush@cam/x is not trusted"
    assert "hush" not in explain([line], "")


@pytest.mark.parametrize(
    ("line", "counts"),
    [
        ("[h264 @ 0x5623a5732bc0] error while decoding MB 0 19, bytestream 6002", True),
        ("[hevc @ 0x5623a5732bc0] Could not find ref with POC 3", True),
        ("[mjpeg @ 0x1] overread 8", True),
        ("Corrupt JPEG data: premature end of data segment", True),
        ("[rtsp @ 0x1] RTP: missed 12 packets", True),
        ("[swscaler @ 0x1] deprecated pixel format used, make sure you did set range correctly", False),
        ("[rtsp @ 0x1] DTS 5 < 7 out of order", False),
        ("    Last message repeated 2 times", False),
        ("[ WARN:0@3.014] global cap.cpp:212 open VIDEOIO(FFMPEG)", False),
    ],
)
def test_only_damaged_pictures_count_as_decode_errors(line: str, counts: bool) -> None:
    assert is_decode_error(line) is counts
