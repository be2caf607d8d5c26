"""Bringing a release to many stores: what was asked for, how it stands, and what to do next.

``spec`` is what somebody wrote down, ``state`` is what the database keeps of it, ``plan`` decides.
Nothing here looks at a clock, a database or a store: everything comes in and goes out as values.
"""
