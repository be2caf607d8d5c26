"""``python -m agent``: the agent's commands without the rest of Storefleet."""

from agent.cli import app

if __name__ == "__main__":
    app()
