r"""Events as lines of output.

A line must stay one line and must not reach into the terminal. The data comes
byte for byte as someone published it: between its tokens JSON may have
newlines, and inside its strings it may have DEL and the C1 controls, which
some terminals obey, and marks that reorder text. Both are replaced by what
means the same in JSON. `raw` alone prints texts as they are: it is for files
and programs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import msgspec

import tercet

# Only whitespace between tokens can be these: in a string they would be escaped.
_SPACES = bytes.maketrans(b"\r\n\t", b"   ")

# DEL, C1, the line separators and the bidirectional marks. All lie in the
# basic plane, so that one \u escape is enough.
_UNSAFE = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")

_encode = msgspec.json.Encoder().encode


def json_data(data: bytes) -> bytes:
    """Return JSON as one line that is safe to print and means the same."""
    line = data.translate(_SPACES)
    if line.isascii() and b"\x7f" not in line:
        return line
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", line.decode()).encode()


def text_line(message: tercet.Message) -> bytes:
    """Return `TOPIC DATA`."""
    topic = message.topic
    if not topic.isprintable():
        topic = _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", topic)
    return b"%b %b\n" % (topic.encode(), json_data(message.raw))


def json_line(message: tercet.Message) -> bytes:
    """Return all of the message as one JSON object."""
    return b'{"topic":%b,"seq":%d,"epoch":%b,"time":%d,"data":%b,"retained":%b}\n' % (
        json_data(_encode(message.topic)),
        message.seq,
        _encode(message.epoch),
        message.time,
        json_data(message.raw),
        b"true" if message.retained else b"false",
    )


def raw_line(message: tercet.Message) -> bytes:
    """Return the text of a JSON string, and any other data as JSON.

    A string that holds half of a surrogate pair has no text, and stays JSON.
    """
    if message.raw.lstrip().startswith(b'"'):
        try:
            text: str = message.data
            return text.encode() + b"\n"
        except ValueError:
            pass
    return message.raw.translate(_SPACES) + b"\n"


def gap_line(gap: tercet.Gap) -> bytes:
    """Return a gap as one JSON object, in the place where the messages may be missing."""
    fields = {
        "reason": str(gap.reason),
        "namespace": gap.namespace,
        "epoch": gap.epoch,
        "after": gap.after,
        "through": gap.through,
        "dropped": gap.dropped,
    }
    return json_data(_encode({"gap": fields})) + b"\n"


FORMATS: Mapping[str, Callable[[tercet.Message], bytes]] = {
    "text": text_line,
    "json": json_line,
    "raw": raw_line,
}
