"""``python -m agent``: the agent's commands without the rest of Storefleet."""

import sys

from agent.cli_health import answer_plain

if __name__ == "__main__":
    status = answer_plain(sys.argv[2:]) if sys.argv[1:2] == ["health"] else None
    if status is not None:
        sys.exit(status)
    from agent.cli import app

    app()
