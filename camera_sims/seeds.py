"""Which seeds are for what, so that no model is ever judged on a shop it was trained on.

Every seed below ``FIRST_RESERVED`` is for demos, tests and benchmarks.
"""

FIRST_RESERVED = 1_000_000
TRAINING = range(1_000_000, 1_100_000)
VALIDATION = range(1_100_000, 1_200_000)
"""Watched during training, for early stopping and the choice of the best epoch."""
EVALUATION = range(1_200_000, 1_300_000)
"""Seen by nobody but the final evaluation."""
