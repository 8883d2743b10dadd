"""Between bytes and messages: hostile input, `data` byte for byte, errors that name the field."""

from __future__ import annotations

import json
import re
from contextlib import suppress

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from msgspec import Raw

from tercet_protocol import (
    MAX_ID,
    Connect,
    DecodeError,
    Live,
    Message,
    Ping,
    Publish,
    Request,
    Subscribe,
    check_json,
    decode_event,
    decode_request,
    encode,
    encode_delivery,
    encode_replay,
    encode_text,
    from_json,
    peek_id,
    to_json,
)

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
)
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text("abü"), inner), max_leaves=10)
# The same value in many spellings: spacing and escapes differ.
documents = st.builds(
    lambda value, indent, ascii_: json.dumps(value, indent=indent, ensure_ascii=ascii_).encode(),
    values,
    st.sampled_from([None, 0, 2]),
    st.booleans(),
)
ops = "authenticate connect history ping pong presence publish subscribe unsubscribe".split()
fields = "op id token client heartbeat filter since last retained sub topic data retain key echo limit x".split()
objects = st.dictionaries(
    st.sampled_from(fields),
    st.sampled_from(ops) | values | st.builds(lambda e, s: {"epoch": e, "seq": s}, st.text(), st.integers()),
)


def publish(data: bytes) -> bytes:
    return b'{"op":"publish","id":1,"topic":"a","data":' + data + b"}"


# data


@given(documents)
@example(b"1.10")
@example(b"-0")
@example(b"1E+5")
@example(b"1e999")
@example(b"123456789012345678901234567890.10")
@example(b'{"b":1,"a":2}')
@example(b'{"a":1,"a":2}')
@example(b'{ "a" :\t[ 1 ,\n2 ] }')
@example(rb'"\u00e9\/"')
@example(rb'"\ud83d\ude00"')
def test_data_passes_byte_for_byte(document: bytes) -> None:
    """C-018."""
    request = decode_request(publish(document))
    assert isinstance(request, Publish)
    assert bytes(request.data) == document
    frame = encode_delivery(encode_text(request.topic), 1, 2, bytes(request.data))
    event = decode_event(frame)
    assert isinstance(event, Message)
    assert bytes(event.data) == document
    assert bytes(check_json(document)) == document


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[1,]", b"01", b"+1", b".5", b"1.", b"NaN", b"tru", b"'a'", b'"a', b'"\n"', rb'"\x"', b"1 2", b"{1:2}"]
    + [rb'"\ud800"', rb'["\udc00", 1]', rb'"\ud800\ud800  "'],
)
def test_data_that_is_no_json_is_refused(data: bytes) -> None:
    """C-014, C-018: half a surrogate pair is no character, so no JSON text of ours."""
    with pytest.raises(DecodeError):
        decode_request(publish(data))
    with pytest.raises(ValueError, match="not a JSON value"):
        check_json(data)


def test_data_may_be_nested_to_500_levels() -> None:
    """C-019."""
    request = decode_request(publish(b"[" * 500 + b"]" * 500))
    assert isinstance(request, Publish)
    assert from_json(request.data) is not None


def test_data_nested_deeper_is_refused_whatever_the_stack() -> None:
    """C-019. Brackets within strings, and many side by side, are no nesting."""
    with pytest.raises(DecodeError, match="deeper than 500 levels"):
        decode_request(publish(b"[" * 501 + b"]" * 501))
    with pytest.raises(DecodeError, match="deeper than 500 levels"):
        decode_request(publish(b'{"[":' * 501 + b"1" + b"}" * 501))
    for data in (b'"' + b"[" * 600 + b'"', b'["' + b"[" * 600 + rb'\"[["]', b"[" + b"[]," * 600 + b"{}]"):
        assert isinstance(decode_request(publish(data)), Publish)


def test_data_is_a_copy() -> None:
    """A receive buffer may be used again."""
    buffer = bytearray(publish(b'"abc"'))
    request = decode_request(bytes(buffer))
    assert isinstance(request, Publish)
    buffer[:] = b" " * len(buffer)
    assert bytes(request.data) == b'"abc"'


# Hostile input


@given(st.binary() | st.text().map(str.encode) | objects.map(lambda value: json.dumps(value).encode()))
@example(b"[" * 100_000)
@example(b'{"op":' * 100_000)
@example(publish(b"[" * 100_000 + b"]" * 100_000))
@example(b'{"op":"ping","id":1e400}')
@example(b'{"op":"ping","id":' + b"9" * 5000 + b"}")
@example(b'{"op":"\xff"}')
@example(b'{"op":"ping","\xff":1}')
@example(b'\xef\xbb\xbf{"op":"ping"}')
def test_any_bytes_are_a_message_or_refused(payload: bytes) -> None:
    """C-014: nothing but DecodeError, and a short text."""
    for decode in (decode_request, decode_event):
        try:
            decode(payload)
        except DecodeError as error:
            assert 0 < len(str(error)) < 500
            assert error.id is None or 1 <= error.id <= MAX_ID
    peek_id(payload)


@given(st.text())
@example('{"op":"\ud800"}')
def test_any_text_is_a_message_or_refused(payload: str) -> None:
    with suppress(DecodeError):
        decode_request(payload)


@given(objects)
def test_what_is_accepted_says_what_was_sent(wire: dict[str, object]) -> None:
    """A request that is accepted encodes to the same fields: nothing is dropped or coerced."""
    try:
        request = decode_request(json.dumps(wire).encode())
    except DecodeError:
        return
    defaults = {"retain": False, "echo": True, "heartbeat": False}
    told = {
        name: value
        for name, value in wire.items()
        if (value is not None or name == "data") and not (name in defaults and value is defaults[name])
    }
    assert json.loads(encode(request)) == told


# Errors name what is wrong


@pytest.mark.parametrize(
    ("payload", "words", "id_"),
    [
        (b'{"op":"ping","x":1,"id":3}', ["ping", "'x'"], 3),
        (b'{"op":"subscribe","filter":1,"id":3}', ["subscribe", "filter", "str", "int"], 3),
        (b'{"op":"subscribe","id":3}', ["subscribe", "'filter'"], 3),
        (b'{"op":"publish","topic":"a","id":3}', ["publish", "'data'"], 3),
        (b'{"op":"publish","topic":"a","data":1,"retain":1}', ["publish", "retain"], None),
        (b'{"op":"publish","topic":"a","data":1,"key":"short"}', ["publish", "key", "16"], None),
        (b'{"op":"publish","topic":"a","data":1,"key":"' + b"k" * 65 + b'"}', ["publish", "key", "64"], None),
        (b'{"op":"subscribe","filter":"a","since":{"epoch":"e"}}', ["since", "'seq'"], None),
        (b'{"op":"subscribe","filter":"a","since":{"epoch":"","seq":1}}', ["since.epoch"], None),
        (b'{"op":"subscribe","filter":"a","since":{"epoch":"e","seq":-1}}', ["since.seq"], None),
        (b'{"op":"subscribe","filter":"a","since":{"epoch":"e","seq":1,"z":1}}', ["since", "'z'"], None),
        (b'{"op":"subscribe","filter":"a","last":-1}', ["last", "0"], None),
        (b'{"op":"history","filter":"a","limit":0}', ["limit", "1"], None),
        (b'{"op":"ping","id":0}', ["id", "1"], None),
        (b'{"op":"ping","id":9007199254740992}', ["id", str(MAX_ID)], None),
        (b'{"op":"ping","id":1.5}', ["id", "float"], None),
        (b'{"op":"ping","id":true}', ["id", "bool"], None),
        (b'{"op":"ping","id":1e400}', ["id"], None),
        (b'{"op":"ping","id":"1"}', ["id", "str"], None),
        (b'{"op":"nope","id":4}', ["unknown op", "nope", "publish"], 4),
        (b'{"op":5,"id":4}', ["unknown op", "5"], 4),
        (b'{"op":["a"],"id":4}', ["unknown op", '["a"]'], 4),
        (b'{"op":"' + b"a" * 999 + b'"}', ["unknown op", "a…"], None),
        (b'{"id":4}', ["no 'op'"], 4),
        (b'{"op":null,"id":4}', ["no 'op'"], 4),
        (b"[]", ["one JSON object"], None),
        (b"null", ["one JSON object"], None),
        (b"{", ["not JSON"], None),
        (b'{"op":"ping"} x', ["not JSON", "trailing"], None),
        (publish(b"[" * 100_000 + b"]" * 100_000), ["nested too deep"], None),
    ],
)
def test_errors_name_the_field_and_keep_the_id(payload: bytes, words: list[str], id_: int | None) -> None:
    """C-013, C-014, C-020, C-023."""
    with pytest.raises(DecodeError) as caught:
        decode_request(payload)
    assert [word for word in words if word not in str(caught.value)] == []
    assert caught.value.id == id_
    assert not re.search(r"[`\n]", str(caught.value))


@pytest.mark.parametrize("id_", [1, 2**31, 2**53 - 1])
def test_ids_of_the_whole_range_are_accepted(id_: int) -> None:
    """C-020."""
    assert decode_request(b'{"op":"ping","id":%d}' % id_).id == id_
    assert peek_id(b'{"id":%d,"op":"anything","data":[1]}' % id_) == id_


@pytest.mark.parametrize(
    "payload",
    [b"", b"[1]", b"{}", b'{"id":null}', b'{"id":0}', b'{"id":"1"}', b'{"id":1.5}', b'{"id":9007199254740992}'],
)
def test_peek_finds_no_id(payload: bytes) -> None:
    assert peek_id(payload) is None


# null


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b'{"op":"ping","id":null}', Ping()),
        (b'{"op":"connect","token":null,"client":null,"heartbeat":null}', Connect()),
        (b'{"op":"subscribe","filter":"a","since":null,"last":null,"retained":null}', Subscribe(filter="a")),
        (
            b'{"op":"publish","topic":"a","data": {"a" : null} ,"retain": null ,"key":null,"echo":null}',
            Publish(topic="a", data=Raw(b'{"a" : null}')),
        ),
        (b'{"op":"publish","topic":"a","data":null}', Publish(topic="a", data=Raw(b"null"))),
    ],
)
def test_null_for_an_optional_field_counts_as_absent(payload: bytes, expected: Request) -> None:
    """C-017."""
    assert encode(decode_request(payload)) == encode(expected)


@pytest.mark.parametrize(
    "payload",
    [
        b'{"op":"subscribe","filter":null}',
        b'{"op":"publish","topic":null,"data":1}',
        b'{"op":"ping","heartbeat":null}',
        b'{"op":"connect","echo":null}',
        b'{"op":"publish","topic":"a","data":1,"echo":null,"x":1}',
        b'{"op":"publish","topic":"a","data":1,"x":null}',
    ],
)
def test_null_elsewhere_is_refused(payload: bytes) -> None:
    """C-014, C-017: for a field that is needed, or that the op does not have."""
    with pytest.raises(DecodeError):
        decode_request(payload)


# Events


def test_client_ignores_unknown_ops_and_fields() -> None:
    """C-016."""
    assert decode_event(b'{"op":"tide","level":3}') is None
    event = decode_event(b'{"op":"live","sub":1,"seq":2,"new":{"a":1}}')
    assert event is not None
    assert encode(event) == encode(Live(sub=1, seq=2))


@pytest.mark.parametrize("payload", [b"", b"[]", b"{}", b'{"op":5}', b'{"op":"live","sub":1}', b'{"op":"error"}'])
def test_broken_events_are_refused(payload: bytes) -> None:
    with pytest.raises(DecodeError, match="the broker sent"):
        decode_event(payload)


@given(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.integers(1, MAX_ID),
    st.integers(0, MAX_ID),
    documents,
    st.integers(1, MAX_ID),
    st.booleans(),
)
def test_deliveries_decode_to_what_they_say(
    topic: str, seq: int, time: int, data: bytes, sub: int, retained: bool
) -> None:
    live = decode_event(encode_delivery(encode_text(topic), seq, time, data))
    assert live == Message(topic=topic, seq=seq, time=time, data=live.data if isinstance(live, Message) else Raw())
    replayed = decode_event(encode_replay(encode_text(topic), seq, time, data, sub=sub, retained=retained))
    assert isinstance(replayed, Message)
    assert (replayed.topic, replayed.seq, replayed.time) == (topic, seq, time)
    assert (replayed.sub, replayed.retained) == (sub, retained)
    assert bytes(replayed.data) == data


def test_delivery_has_the_fields_of_the_contract_in_order() -> None:
    """M-001: no field names a subscription or a connection."""
    assert encode_delivery(b'"a"', 1, 2, b"{}") == b'{"op":"message","topic":"a","seq":1,"time":2,"data":{}}'


# Values


@given(values)
def test_values_round_trip(value: object) -> None:
    assume(_fits(value))
    assert from_json(to_json(value)) == value


def _fits(value: object) -> bool:
    """Integers beyond 64 bits come back as floats."""
    match value:
        case bool():
            return True
        case int():
            return -(2**63) <= value < 2**64
        case list():
            return all(_fits(item) for item in value)
        case dict():
            return all(_fits(item) for item in value.values())
        case _:
            return True


def test_values_without_a_json_form_are_refused() -> None:
    loop: list[object] = []
    loop.append(loop)
    for value in (object(), "\ud800", loop, {object(): 1}):
        with pytest.raises(ValueError, match="cannot be sent as JSON"):
            to_json(value)


def test_checked_text_may_be_text_or_bytes() -> None:
    assert bytes(check_json('["ü"]')) == '["ü"]'.encode()
    for bad in (b'"\xff"', "[", "\ud800"):
        with pytest.raises(ValueError, match="not a JSON value"):
            check_json(bad)


def test_data_that_python_cannot_hold_is_reported() -> None:
    with pytest.raises(ValueError, match="cannot be held"):
        from_json(b"[" * 100_000 + b"]" * 100_000)
    with pytest.raises(ValueError, match="cannot be held"):
        from_json(b"1e999")
