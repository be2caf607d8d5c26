"""``python -m storefleet``."""

from storefleet.cli import main

main()
