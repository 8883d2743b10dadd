"""Attacks on and below TLS."""

from __future__ import annotations

import socket
import ssl
import tempfile
from contextlib import suppress

import trio
from tests.integration.hostile.attacking import GONE, Siege, attack, drip, end_of, pour
from tests.tls_records import HandWrittenTls, Sealer12, Sealer13


@attack("TLS", "cut")
async def plain_text(siege: Siege) -> str:
    """HTTP to a TLS listener."""
    peer = await siege.running.dial_tcp("wss")
    await pour(peer, siege.wire.upgrade_request())
    await peer.end()
    return "cut"


@attack("TLS", "cut after `timeouts.handshake`")
async def slow_hello(siege: Siege) -> str:
    """slowloris: a ClientHello byte by byte."""
    peer = await siege.running.dial_tcp("wss")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(drip, peer, hello())
        await peer.end()
        nursery.cancel_scope.cancel()
    return "cut after `timeouts.handshake`"


@attack("TLS", "cut")
async def half_hello(siege: Siege) -> str:
    """a ClientHello of any length, and RST or half-close."""
    data = hello()
    for cut in range(1, len(data) + 1, 37):
        peer = await siege.running.dial_tcp("wss")
        await pour(peer, data[:cut])
        if cut % 2:
            peer.reset()
        else:
            assert isinstance(peer.stream, trio.SocketStream)
            await peer.stream.send_eof()
            await peer.end()
    return "cut"


@attack("TLS", "an alert")
async def old_version(siege: Siege) -> str:
    """TLS 1.1."""
    peer = await siege.running.dial_tcp("wss")
    # A ClientHello of TLS 1.1 as its RFC (4346, 7.4.1.2) has it; today's OpenSSL would not write one.
    body = b"\x03\x02" + bytes(32) + b"\x00" + b"\x00\x04\xc0\x14\x00\x35" + b"\x01\x00"
    handshake = b"\x01" + len(body).to_bytes(3, "big") + body
    await peer.send(b"\x16\x03\x01" + len(handshake).to_bytes(2, "big") + handshake)
    data = await peer.stream.receive_some(100)
    assert data[:1] == b"\x15", data  # RFC 4346, 6.2.1
    await peer.end()
    return "an alert"


@attack("TLS", "nothing: an end like any other")
async def truncation(siege: Siege) -> str:
    """TLS cut off without a close_notify, within a message."""
    for data in (b"", siege.request("connect", id=1), siege.request("connect", id=1)[:10]):
        peer = await siege.dial()
        await peer.upgrade()
        await peer.send(data)
        await trio.aclose_forcefully(peer.stream)
    return "nothing: an end like any other"


async def hand_written(siege: Siege, version: ssl.TLSVersion) -> HandWrittenTls:
    """Return a connection that has introduced itself, and can send records of any kind."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for authority in siege.running.context.get_ca_certs(binary_form=True):
        context.load_verify_locations(cadata=authority)
    context.maximum_version = version
    tcp = await siege.running.dial_tcp("wss")
    with tempfile.NamedTemporaryFile() as log:
        context.keylog_filename = log.name
        client = HandWrittenTls(tcp.stream, context)
        await client.handshake()
    await client.send(siege.wire.upgrade_request() + siege.request("connect", id=1))
    received = b""
    while b'"connected"' not in received:
        more = await client.receive()
        assert more, received
        received += more
    return client


@attack("TLS", "an answer, later: they are read at a rate of their own")
async def key_updates(siege: Siege) -> str:
    """1,500 KeyUpdates that ask for one in return, and then a ping."""
    client = await hand_written(siege, ssl.TLSVersion.TLSv1_3)
    assert isinstance(client.sealer, Sealer13)
    began = trio.current_time()
    for _ in range(15):
        await client.stream.send_all(b"".join(client.sealer.key_update(is_requested=True) for _ in range(100)))
    await client.send(siege.request("ping", id=2))
    received = b""
    while b'"pong"' not in received:
        more = await client.receive()
        assert more, "it was cut"
        received += more
    assert trio.current_time() - began > 0.9
    return "an answer, later: they are read at a rate of their own"


@attack("TLS", "an alert, and is served on")
async def renegotiation(siege: Siege) -> str:
    """100 requests to renegotiate, in TLS 1.2."""
    client = await hand_written(siege, ssl.TLSVersion.TLSv1_2)
    assert isinstance(client.sealer, Sealer12)
    await client.stream.send_all(b"".join(client.sealer.renegotiation() for _ in range(100)))
    await client.send(siege.request("ping", id=2))
    received = b""
    while b'"pong"' not in received:
        try:
            received += await client.receive()
        except ssl.SSLError as error:
            assert error.reason == "NO_RENEGOTIATION", error
            return "an alert, and is served on"
    return "no alert"


@attack("TLS", "cut")
async def records_of_garbage(siege: Siege) -> str:
    """a right handshake, and records behind it that are none."""
    peer = await siege.dial()
    await peer.upgrade()
    await peer.sock.send(b"\x17\x03\x03\x00\x20" + bytes(32))
    await peer.end()
    return "cut"


def hello() -> bytes:
    """Return a ClientHello."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    machine = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="x.test")
    try:
        machine.do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
    raise AssertionError


@attack("TLS", "close 3008 after `timeouts.pong`")
async def stalled_record(siege: Siege) -> str:
    """connected, and then a part of a record, which does not go on."""
    peer = await siege.connected()
    await peer.sock.send(b"\x17\x03\x03\x40\x00" + bytes(100))
    peer.is_silent = True
    return f"{await end_of(peer)} after `timeouts.pong`"


@attack("TLS", "cut")
async def half_closed(siege: Siege) -> str:
    """a close_notify, or the end of its direction, and then it listens on."""
    for way in ("close_notify", "end"):
        peer = await siege.connected()
        if way == "end":
            peer.sock.shutdown(socket.SHUT_WR)
            await peer.end()
        else:
            assert isinstance(peer.stream, trio.SSLStream)
            with trio.fail_after(10), suppress(*GONE):
                await peer.stream.unwrap()
    return "cut"


@attack("TLS", "answers, later: each at a rate of its own")
async def key_updates_of_many(siege: Siege) -> str:
    """20 connections with 500 KeyUpdates each, and then a ping."""

    async def update() -> None:
        client = await hand_written(siege, ssl.TLSVersion.TLSv1_3)
        assert isinstance(client.sealer, Sealer13)
        await client.stream.send_all(b"".join(client.sealer.key_update(is_requested=True) for _ in range(500)))
        await client.send(siege.request("ping", id=2))
        received = b""
        while b'"pong"' not in received:
            more = await client.receive()
            assert more, "it was cut"
            received += more

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(update)
    return "answers, later: each at a rate of its own"
