"""The ``storefleet`` command.

Kubelets run ``storefleet agent health`` every few seconds on the nodes that also run detection, so that
one command is answered before anything large is imported; every other goes to ``storefleet.commands``.
"""

import sys


def main() -> None:
    words = sys.argv[1:]
    if words[:2] == ["agent", "health"]:
        status = _health(words[2:])
        if status is not None:
            sys.exit(status)
    from storefleet.commands import build_app

    build_app(words)()


def _health(words: list[str]) -> int | None:
    """None where there is no agent, too: the full command line says how to get one."""
    try:
        from agent.cli_health import answer_plain
    except ModuleNotFoundError:
        return None
    return answer_plain(words)
