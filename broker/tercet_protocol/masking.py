"""Masking, which every frame of a client has (RFC 6455, 5.3): XOR with a key of four bytes, again and again.

The one thing on the way of a message that takes time for each of its bytes:
in Python, as two long integers, nearly 3 ns; in C a hundredth of that. A
well-kept library has it in C, and in Python for where that was not built.
"""

from __future__ import annotations

try:
    from websockets.speedups import apply_mask
except ImportError:  # a platform for which there is no wheel, and no compiler
    from websockets.utils import apply_mask

__all__ = ["apply_mask"]
