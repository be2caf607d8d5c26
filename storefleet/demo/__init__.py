"""``storefleet demo``: the whole path on one machine, from video to database row, then a report."""
