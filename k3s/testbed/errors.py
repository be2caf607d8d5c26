"""The testbed's one error: what was wrong and what to do about it."""


class TestbedError(Exception):
    """Something that the person at the keyboard can put right. The message says how."""

    __test__ = False  # the name begins like a test class's, and pytest would collect it
