"""Real input arrives whole: a part of what stdlib_over_wss.py sends with `--all`."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("stdlib_over_wss.py")
PACKAGES = ["asyncio", "email", "html", "json"]  # 28,602 lines in Python 3.11.7, not all of them ASCII
PATIENCE = 120.0


def test_part_of_the_standard_library_arrives_whole() -> None:
    """At two subscribers, one of which is killed half way and resumes (S-007)."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *PACKAGES], capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stdout + done.stderr
    sent = re.search(r"sending (\d+) lines", done.stdout)
    killed = re.search(r"killed after (\d+) lines", done.stdout)
    assert sent is not None
    assert killed is not None
    assert int(sent[1]) // 2 <= int(killed[1]) < int(sent[1])
    assert "both arrived whole" in done.stdout
