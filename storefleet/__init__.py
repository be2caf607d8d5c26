"""The one command line and the demo: composes the programs, owns no product logic."""
