"""A thousand connections that mean harm, in waves: `python attackers.py WS_PORT WSS_PORT CA_FILE WAVES SEED`.

A program of its own, so that the daemon has a processor to itself and is not
slowed by what it is attacked with. It prints what was done, as JSON:
{attack: how often}. Whatever the daemon does with a connection is fine here;
the test looks at everyone else.
"""

from __future__ import annotations

import json
import random
import socket
import ssl
import struct
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial

import trio
from attrs import define, field

HOST = "127.0.0.1"
PATIENCE = 6.0  # seconds for one attack
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
GONE = (trio.BrokenResourceError, trio.ClosedResourceError)


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True) -> bytes:
    """Return a frame with a mask of zeros."""
    head = bytes([(0x80 if fin else 0) | opcode])
    size = len(payload)
    if size < 126:
        return head + bytes([0x80 | size]) + bytes(4) + payload
    if size < 1 << 16:
        return head + struct.pack("!BH", 0xFE, size) + bytes(4) + payload
    return head + struct.pack("!BQ", 0xFF, size) + bytes(4) + payload


def request(op: str, **fields: object) -> bytes:
    return frame(TEXT, json.dumps({"op": op, **fields}).encode())


CONNECT = UPGRADE + request("connect", id=1)
BEGIN = CONNECT + request("subscribe", id=2, filter="load/#")


@define(eq=False)
class Attacker:
    """One connection.

    Attributes:
        tcp: the socket.
        stream: the same, or TLS on it.
        draw: where its choices come from.
    """

    tcp: trio.SocketStream
    stream: trio.abc.Stream
    draw: random.Random

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def read_on(self) -> None:
        """Read until the daemon has had enough."""
        while await self.stream.receive_some(1 << 16):
            pass

    def reset(self) -> None:
        self.tcp.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.tcp.socket.close()


Attack = Callable[[Attacker], Awaitable[None]]
ATTACKS: dict[str, Attack] = {}
RAW: set[str] = set()  # those that begin before TLS does


def attack(function: Attack) -> Attack:
    ATTACKS[function.__name__] = function
    return function


def raw(function: Attack) -> Attack:
    RAW.add(function.__name__)
    return attack(function)


@raw
async def half_open(self: Attacker) -> None:
    await self.read_on()


@raw
async def half_closed(self: Attacker) -> None:
    await self.tcp.send_eof()
    await self.read_on()


@raw
async def garbage(self: Attacker) -> None:
    await self.send(self.draw.randbytes(self.draw.randrange(1, 5000)))
    await self.read_on()


@raw
async def garbage_and_reset(self: Attacker) -> None:
    await self.send(self.draw.randbytes(self.draw.randrange(1, 5000)))
    self.reset()


@raw
async def reset_at_once(self: Attacker) -> None:
    self.reset()


@raw
async def reset_within_a_tls_hello(self: Attacker) -> None:
    client, server = ssl.MemoryBIO(), ssl.MemoryBIO()
    machine = ssl.create_default_context().wrap_bio(client, server, server_hostname="x.test")
    try:
        machine.do_handshake()
    except ssl.SSLWantReadError:
        hello = server.read()
        await self.send(hello[: self.draw.randrange(1, len(hello) + 1)])
    self.reset()


@attack
async def reset_within_the_head(self: Attacker) -> None:
    await self.send(UPGRADE[: self.draw.randrange(1, len(UPGRADE) + 1)])
    self.reset()


@attack
async def reset_within_a_frame(self: Attacker) -> None:
    begin = BEGIN + request("publish", topic="load/x", data="y" * 300)
    await self.send(begin[: self.draw.randrange(len(UPGRADE), len(begin))])
    self.reset()


@attack
async def leave_within_a_frame(self: Attacker) -> None:
    await self.send(BEGIN[: self.draw.randrange(len(UPGRADE), len(BEGIN))])


@attack
async def slow_head(self: Attacker) -> None:
    for byte in UPGRADE:
        await self.send(bytes([byte]))
        await trio.sleep(0.1)


@attack
async def endless_head(self: Attacker) -> None:
    await self.send(b"GET / HTTP/1.1\r\n")
    for number in range(10_000):
        await self.send(b"X-%d: %s\r\n" % (number, b"y" * 1000))


@attack
async def other_requests(self: Attacker) -> None:
    await self.send(
        self.draw.choice([b"POST / HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /etc/passwd HTTP/1.0\r\n\r\n", b"\r\n" * 50])
    )
    await self.read_on()


@attack
async def hostile_headers(self: Attacker) -> None:
    name = self.draw.choice([b"Host", b"Connection", b"Sec-WebSocket-Protocol", b"Sec-WebSocket-Extensions"])
    await self.send(UPGRADE[:-2] + name + b": \xff\xfexn--\x80\r\n\r\n")
    await self.read_on()


@attack
async def no_connect(self: Attacker) -> None:
    await self.send(UPGRADE + request("publish", id=1, topic="load/x", data=1) * 50)
    await self.read_on()


@attack
async def silence_after_the_handshake(self: Attacker) -> None:
    await self.send(UPGRADE)
    await self.read_on()


@attack
async def oversized(self: Attacker) -> None:
    await self.send(CONNECT + b"\x81\xff" + struct.pack("!Q", self.draw.choice([1 << 20, 1 << 40, 1 << 62])) + bytes(9))
    await self.read_on()


@attack
async def oversized_and_sending(self: Attacker) -> None:
    await self.send(CONNECT + frame(TEXT, b" " * (8 << 20)))


@attack
async def just_too_large(self: Attacker) -> None:
    await self.send(CONNECT + frame(TEXT, b" " * 300_000) * 5)
    await self.read_on()


@attack
async def endless_fragments(self: Attacker) -> None:
    await self.send(CONNECT + frame(TEXT, fin=False) + frame(0, fin=False) * 200_000)


@attack
async def never_reading(self: Attacker) -> None:
    """Subscribe to the firehose and take nothing of it."""
    await self.send(BEGIN)
    await trio.sleep(PATIENCE)


@attack
async def never_reading_replies(self: Attacker) -> None:
    await self.send(CONNECT)
    while True:
        await self.send(request("history", id=7, filter="load/#") * 50)


@attack
async def ping_flood(self: Attacker) -> None:
    await self.send(CONNECT)
    for _ in range(40):
        await self.send(frame(PING, bytes(125)) * 500)


@attack
async def pong_flood(self: Attacker) -> None:
    await self.send(CONNECT + frame(PONG, bytes(125)) * 10_000)


@attack
async def close_flood(self: Attacker) -> None:
    await self.send(CONNECT + frame(CLOSE, b"\x03\xe8") * 1000)


@attack
async def deep_json(self: Attacker) -> None:
    depth = 100_000
    await self.send(
        CONNECT + frame(TEXT, b'{"op":"publish","topic":"load/x","data":' + b"[" * depth + b"]" * depth + b"}")
    )
    await self.read_on()


@attack
async def not_json(self: Attacker) -> None:
    await self.send(CONNECT + frame(TEXT, b"{" * 100) * 20)
    await self.read_on()


@attack
async def not_utf8(self: Attacker) -> None:
    await self.send(CONNECT + frame(TEXT, self.draw.randbytes(50)))
    await self.read_on()


@attack
async def random_frames(self: Attacker) -> None:
    await self.send(CONNECT + self.draw.randbytes(self.draw.randrange(2, 2000)))
    await self.read_on()


@attack
async def binary(self: Attacker) -> None:
    await self.send(CONNECT + frame(BINARY, bytes(1000)))


@attack
async def many_subscriptions(self: Attacker) -> None:
    await self.send(CONNECT + b"".join(request("subscribe", id=n, filter=f"load/{n}/#") for n in range(2, 2000)))
    await self.read_on()


@define(eq=False)
class Siege:
    """All of it, from one seed."""

    ports: tuple[int, int]
    context: ssl.SSLContext
    draw: random.Random
    done: Counter[str] = field(factory=Counter)

    async def attack(self, name: str, port: int, seed: int) -> None:
        is_encrypted = port == self.ports[1]
        with trio.move_on_after(PATIENCE):
            tcp = await trio.open_tcp_stream(HOST, port)
            stream: trio.abc.Stream = tcp
            try:
                if is_encrypted and name not in RAW:
                    stream = trio.SSLStream(tcp, self.context, server_hostname=HOST, https_compatible=True)
                await ATTACKS[name](Attacker(tcp, stream, random.Random(seed)))
            except GONE:
                pass
            finally:
                await trio.aclose_forcefully(tcp)
        self.done[f"{name}/{'wss' if is_encrypted else 'ws'}"] += 1

    async def wave(self) -> None:
        """Every attack five times, plain and encrypted, all at once."""
        attacks = [(name, port) for name in ATTACKS for port in self.ports * 5]
        self.draw.shuffle(attacks)
        async with trio.open_nursery() as nursery:
            for name, port in attacks:
                nursery.start_soon(self.attack, name, port, self.draw.getrandbits(32))


async def main(ws: str, wss: str, ca: str, waves: str, seed: str) -> None:
    siege = Siege((int(ws), int(wss)), ssl.create_default_context(cafile=ca), random.Random(int(seed)))
    async with trio.open_nursery() as nursery:
        for _ in range(int(waves)):
            nursery.start_soon(siege.wave)
            await trio.sleep(1)
    sys.stdout.write(json.dumps(siege.done))


if __name__ == "__main__":
    trio.run(partial(main, *sys.argv[1:]))
