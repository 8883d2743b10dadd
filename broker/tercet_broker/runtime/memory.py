"""How large the process is, and how large it may become. Linux; elsewhere nothing is known, and nothing limited."""

from __future__ import annotations

import os
from pathlib import Path

_SHARE = 0.8  # of what there is: the rest is for a burst on top, and for the kernel's buffers
_PAGE = os.sysconf("SC_PAGE_SIZE")
_CGROUPS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def resident_bytes() -> int:
    """Return the resident size of this process; 0 where it is not known."""
    try:
        with open("/proc/self/statm", "rb") as file:  # noqa: PTH123 - once a second, and no disk behind it
            return int(file.read().split()[1]) * _PAGE
    except (OSError, IndexError, ValueError):
        return 0


def memory_share() -> int:
    """Return four fifths of the memory of this machine, or of this process's control group if that is less."""
    try:
        found = [os.sysconf("SC_PHYS_PAGES") * _PAGE]
    except (OSError, ValueError):
        found = []
    for path in _CGROUPS:
        try:
            found.append(int(path.read_text()))
        except (OSError, ValueError):  # "max" among others
            continue
    return int(_SHARE * min(found)) if found else 0
