"""Pure decisions: no clock, randomness, environment, logging, threads or I/O."""
