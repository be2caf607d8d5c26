"""Simulated stores: a seeded scene with its ground truth, streamed as cameras would, with faults on command.

Nothing outside this package knows what really stands on a simulated shelf, except through the truth it
writes (``camera_sims.truth``).
"""
