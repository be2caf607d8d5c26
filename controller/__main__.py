"""``python -m controller``: the controller's own command line, without the rest of Storefleet."""

from controller.cli import main

if __name__ == "__main__":
    main()
