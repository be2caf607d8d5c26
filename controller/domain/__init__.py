"""Pure decisions and records of the centre: no clock, no I/O; ``now`` is always a parameter."""
