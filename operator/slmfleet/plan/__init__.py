"""What should exist, given what was observed. Pure: no I/O, no clock, no randomness.

Every name derives from its inputs' digests, so a reconcile that was killed anywhere and runs again makes the same
objects and never a second one.
"""
