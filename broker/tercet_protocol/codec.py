"""Between bytes and messages. `data` goes through byte for byte.

What a peer sends is never trusted: whatever the bytes, decoding returns a
message or raises `DecodeError`, and nothing else.
"""

from __future__ import annotations

import re
from itertools import accumulate
from typing import Any, NoReturn

import msgspec
from msgspec import Raw, Struct

from .messages import AnyEvent, AnyRequest, Event, Id, Publish, Request

_encoder = msgspec.json.Encoder()
_request_decoder: msgspec.json.Decoder[AnyRequest] = msgspec.json.Decoder(AnyRequest)
_event_decoder: msgspec.json.Decoder[AnyEvent] = msgspec.json.Decoder(AnyEvent)
_fields_decoder = msgspec.json.Decoder(dict[str, Raw])
_NULL = Raw(b"null")


class _Envelope(Struct):
    """What can be learned of a message that could not be decoded.

    The values are raw, so that a bad one is no reason not to read the other.
    """

    op: Raw = _NULL
    id: Raw = _NULL


_envelope_decoder = msgspec.json.Decoder(_Envelope)
_id_decoder = msgspec.json.Decoder(Id)
_op_decoder = msgspec.json.Decoder(str)

REQUEST_OPS = frozenset(str(kind.__struct_config__.tag) for kind in AnyRequest.__args__)
EVENT_OPS = frozenset(str(kind.__struct_config__.tag) for kind in AnyEvent.__args__)

# Optional fields whose absence has no value of its own in the structs: `null`
# is not in their type, and has to be taken out to count as absent.
_OPTIONAL_FLAGS = {  # {op: names}
    "connect": frozenset({"heartbeat"}),
    "publish": frozenset({"retain", "echo"}),
}

# How deep a decoder can go depends on its stack. What one client can decode and
# another cannot would close the other's connection each time it is sent.
MAX_DEPTH = 500
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')
_STEP = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_NO_BRACKETS = bytes(byte for byte in range(256) if byte not in _STEP)

_LONGEST_REASON = 300  # characters of an error that go back to a peer
_LONGEST_QUOTE = 40  # characters of the peer's own text in it

# What msgspec raises on hostile input: wrong syntax and types (DecodeError),
# bad UTF-8 in a string (UnicodeDecodeError is a ValueError), deep nesting.
_BAD_INPUT = (msgspec.DecodeError, ValueError, RecursionError)


class DecodeError(ValueError):
    """The bytes are no message of this protocol.

    Attributes:
        id: the request's `id`, where it could be read, so that the error can
            be told to the one who waits for the reply.
    """

    def __init__(self, message: str, id: int | None = None) -> None:  # noqa: A002 - the wire's name
        super().__init__(message)
        self.id = id


def decode_request(payload: bytes | str) -> AnyRequest:
    """Return the request in `payload`; the broker's side.

    `Publish.data` is a copy, independent of `payload`. A `null` for an
    optional field counts as absent.

    Raises:
        DecodeError: it is not JSON, not an object, has an unknown or missing
            `op`, a field that `op` does not have, lacks one that it needs, or
            a value of the wrong type. The text names the field.
    """
    try:
        request = _request_decoder.decode(payload)
    except _BAD_INPUT as error:
        # The slow path: the peer wrote something odd.
        without_nulls = _drop_null_flags(payload)
        if without_nulls is None:
            _explain(payload, error)
        try:
            request = _request_decoder.decode(without_nulls)
        except _BAD_INPUT as error_without:
            _explain(payload, error_without)
    if len(payload) > MAX_DEPTH and isinstance(request, Publish) and _is_too_deep(bytes(request.data)):
        raise DecodeError(f"publish: 'data' is nested deeper than {MAX_DEPTH} levels", request.id)
    return request


def _is_too_deep(data: bytes) -> bool:
    """Tell whether JSON (valid, at that) is nested deeper than every client can be trusted to decode."""
    if data.count(b"[") + data.count(b"{") <= MAX_DEPTH:
        return False
    brackets = _STRING.sub(b"", data).translate(None, _NO_BRACKETS)
    return max(accumulate(map(_STEP.__getitem__, brackets)), default=0) > MAX_DEPTH


def _drop_null_flags(payload: bytes | str) -> bytes | None:
    """Return the message without those flags that are `null`; None if there are none."""
    try:
        fields = _fields_decoder.decode(payload)
    except _BAD_INPUT:
        return None
    flags = _OPTIONAL_FLAGS.get(_op(fields.get("op", _NULL)) or "", frozenset())
    nulls = {name for name in flags & fields.keys() if bytes(fields[name]) == b"null"}
    if not nulls:
        return None
    return _encoder.encode({name: value for name, value in fields.items() if name not in nulls})


def peek_id(payload: bytes | str) -> int | None:
    """Return the `id` of a message that is not going to be decoded, if it has a valid one."""
    try:
        envelope = _envelope_decoder.decode(payload)
    except _BAD_INPUT:
        return None
    return _valid_id(envelope.id)


def _valid_id(raw: Raw) -> int | None:
    try:
        return _id_decoder.decode(raw)
    except _BAD_INPUT:
        return None


def _op(raw: Raw) -> str | None:
    """Return the op if it is a string that can be held."""
    try:
        return _op_decoder.decode(raw)
    except _BAD_INPUT:
        return None


def _explain(payload: bytes | str, error: Exception) -> NoReturn:
    """Say for a person what is wrong with a request."""
    try:
        envelope = _envelope_decoder.decode(payload)
    except RecursionError:
        raise DecodeError("the message is nested too deep") from error
    except msgspec.ValidationError:
        raise DecodeError('a message is one JSON object, as in {"op":"ping"}') from error
    except (msgspec.DecodeError, ValueError) as syntax:
        raise DecodeError(f"the message is not JSON: {_plain(syntax)}") from error
    id_ = _valid_id(envelope.id)
    known = ", ".join(sorted(REQUEST_OPS))
    if bytes(envelope.op) == b"null":
        raise DecodeError(f"the message has no 'op'; one of {known} is needed", id_) from error
    op = _op(envelope.op)
    if op not in REQUEST_OPS:
        raise DecodeError(f"unknown op {_quote(envelope.op)}; known are {known}", id_) from error
    raise DecodeError(f"{op}: {_plain(error)}", id_) from error


def _plain(error: Exception) -> str:
    text = str(error).replace("`", "'").removeprefix("JSON is malformed: ")[:_LONGEST_REASON]
    return text[:1].lower() + text[1:]


def _quote(raw: Raw) -> str:
    """Return the peer's own JSON, shortened."""
    text = bytes(raw).decode("utf-8", "replace")
    return text if len(text) <= _LONGEST_QUOTE else text[:_LONGEST_QUOTE] + "…"


def decode_event(payload: bytes | str) -> AnyEvent | None:
    """Return the event in `payload`; the client's side.

    None stands for an `op` this version does not know, to be ignored.

    Raises:
        DecodeError: it is not an event of any version.
    """
    try:
        return _event_decoder.decode(payload)
    except _BAD_INPUT as error:
        try:
            envelope = _envelope_decoder.decode(payload)
        except _BAD_INPUT:
            raise DecodeError(f"the broker sent what is no message: {_plain(error)}") from error
        op = _op(envelope.op)
        if op is not None and op not in EVENT_OPS:
            return None
        raise DecodeError(f"the broker sent a broken {_quote(envelope.op)}: {_plain(error)}") from error


def encode(message: Event | Request) -> bytes:
    """Return one message as UTF-8 JSON, without a newline."""
    return _encoder.encode(message)


def encode_text(text: str) -> bytes:
    """Return a JSON string: the `topic_json` of `encode_delivery`, to be made once a topic."""
    return _encoder.encode(text)


def encode_delivery(topic_json: bytes, seq: int, time: int, data: bytes) -> bytes:
    """Return a live `message`: the same bytes for every connection."""
    return b'{"op":"message","topic":%b,"seq":%d,"time":%d,"data":%b}' % (topic_json, seq, time, data)


def encode_replay(  # noqa: PLR0913 - the fields of the wire object
    topic_json: bytes, seq: int, time: int, data: bytes, *, sub: int, retained: bool
) -> bytes:
    """Return a `message` that belongs to the replay of `sub`."""
    return b'{"op":"message","topic":%b,"seq":%d,"time":%d,"data":%b,"sub":%d%b}' % (
        topic_json,
        seq,
        time,
        data,
        sub,
        b',"retained":true' if retained else b"",
    )


def check_json(data: bytes | str) -> Raw:
    """Return text that came from outside as `data`, after checking that it is one JSON value.

    Raises:
        ValueError: it is not.
    """
    try:
        raw = data.encode() if isinstance(data, str) else data
        raw.decode()  # msgspec does not look at the UTF-8 of what it keeps raw
        return Raw(msgspec.json.decode(raw, type=Raw))
    except _BAD_INPUT as error:
        raise ValueError(f"not a JSON value: {_plain(error)}") from error


def to_json(value: object) -> Raw:
    """Return a Python value as `data`; NaN and the infinities, which JSON lacks, become `null`.

    Raises:
        ValueError: it has no JSON form (a set of objects, an unknown class, …).
    """
    try:
        return Raw(_encoder.encode(value))
    except (TypeError, ValueError, RecursionError, msgspec.EncodeError) as error:
        raise ValueError(f"{type(value).__name__} cannot be sent as JSON: {error}") from error


def from_json(data: bytes | Raw) -> Any:
    """Return the Python value of `data`.

    Raises:
        ValueError: Python cannot hold it (a number out of range, nesting too
            deep for this process). The broker passes such values on: their
            syntax is right.
    """
    try:
        return msgspec.json.decode(bytes(data))
    except _BAD_INPUT as error:
        raise ValueError(f"the data cannot be held as a Python value: {_plain(error)}") from error
