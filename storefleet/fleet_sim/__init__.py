"""A fleet of stores in memory, with a centre that rolls releases out to it by the real planner.

``world`` is the stores, ``centre`` plans and carries out, ``rules`` says what must never happen, ``history``
is one random life of all of them, drawn from a seed. Nothing here sleeps or talks to anything: an hour of a
thousand stores takes seconds.
"""
