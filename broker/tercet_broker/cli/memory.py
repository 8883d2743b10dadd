"""How Python's cyclic collector is run in a process that is nothing but a broker."""

from __future__ import annotations

import gc

# New objects before the youngest generation is looked at (about two milliseconds), and how often that has to happen
# before the next one is (about ten), and that before the whole. The whole takes a tenth of a second and more with ten
# thousand connections, in which nobody is served; and so would the middle one while they come, were it as seldom.
_THRESHOLDS = (5_000, 3, 10_000)


def spare_the_collector() -> None:
    """Have it look at everything seldom, and never at what is there before the first connection.

    Everything that a connection leaves behind is freed without it, by
    reference counts (a test counts); so there is next to nothing to collect.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
