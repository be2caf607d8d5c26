"""A simulated fleet: what thousands of stores would tell the centre, without cameras or clusters."""
