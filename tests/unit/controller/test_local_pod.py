"""What operators read of a pod's log."""

import json

import pytest

from controller.adapters.local.pod import spoken


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            json.dumps({"message": "cannot go on", "detail": "no key"}),
            "cannot go on: no key",
        ),
        (json.dumps({"message": "cannot go on"}), "cannot go on"),
        ("Segmentation fault", "Segmentation fault"),
        ('{"cut', '{"cut'),
        ("[1]", "[1]"),
    ],
)
def test_a_line_of_a_log_is_told_in_words(line: str, words: str) -> None:
    assert spoken(line) == words
