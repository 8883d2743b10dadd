"""Three connections of a core say anything, in any order; after each step the books add up.

Each line of the input is one step. Its first byte says whose (modulo 3) and
what: a request as it stands, one that is built from a few bytes, or something
that happens to the connection.
"""

from __future__ import annotations

import json
import random

from tests.core.conftest import Peer, World

from tercet_broker.core import Broker, BrokerSettings, HistorySettings, LimitSettings, NamespaceSettings

_SMALL = NamespaceSettings(history=HistorySettings(messages=6, bytes=600, per_topic=1), topics=4, keys=3)
_SETTINGS = BrokerSettings(
    namespaces={"a": _SMALL, "b": NamespaceSettings(retained=False)},
    unnamed=NamespaceSettings(topics=3),
    unnamed_limit=2,
    limits=LimitSettings(
        message_bytes=300,
        subscriptions=4,
        outbox_messages=5,
        outbox_bytes=2000,
        history_messages=3,
        history_bytes=200,
        history_scanned=4,
    ),
)
_TOPICS = ("a", "a/x", "a/x/y", "b/x", "c", "d/x", "e", "f", "$s/x", "a//", "", "a/+")
_FILTERS = ("#", "a/#", "a/+", "+", "+/x", "a/x", "b/#", "c", "d/#", "$s/#", "a/#/x", "")
_OPS = ("publish", "subscribe", "unsubscribe", "history", "ping", "connect", "authenticate", "presence", "pong")
_STEPS = 60

WORDS = [
    *(f'"op":"{op}"'.encode() for op in _OPS),
    *(f'"{name}":'.encode() for name in ("id", "sub", "filter", "topic", "data", "since", "last", "retained")),
    *(f'"{name}":'.encode() for name in ("retain", "key", "echo", "limit", "token", "client", "heartbeat", "epoch")),
    *(b"\\ud800", b"true", b"null", b"1e400", b"-0", b"9007199254740992", b'"seq":0', b'"a/x"', b'"#"'),
]
SEEDS = [
    (
        b'0{"op":"connect","id":1}\n0{"op":"subscribe","id":2,"filter":"a/#"}\n1{"op":"connect","id":1}\n'
        b'1{"op":"publish","topic":"a/x","data":{"k":[1,2.5,"\\u00e9"]},"retain":true,"key":"0123456789abcdef"}\n'
        b'0{"op":"history","id":3,"filter":"a/#","limit":2}\n2{"op":"ping"}\n'
    ),
    b"pp\x00\npp\x01\n" + b"".join(bytes((0x70 + i % 3, i, 255 - i, i * 7 % 256, 10)) for i in range(40)),
    b"".join(bytes((0x60 + i % 3, i % 9, i, i, 10)) for i in range(40)) + b"A\nB\nC\nD\n",
]


def run(data: bytes) -> None:
    """Take the steps."""
    broker = Broker(_SETTINGS, random.Random(1))
    broker.fan_out.settle_soon = lambda: None
    world = World(broker)
    peers = [world.join(), world.open(), world.join()]
    for line in data.split(b"\n")[:_STEPS]:
        if not line:
            continue
        who = line[0] % len(peers)
        if peers[who].close_code is not None:
            peers[who].hang_up()
            world.peers.remove(peers[who])
            peers[who] = world.join()
        _step(world, peers, who, line)
    for peer in peers:
        peer.take()
        peer.hang_up()
    world.check()
    assert not broker.sessions
    assert all(account.statistics().queued == 0 for _, account in broker.accounts())


def _step(world: World, peers: list[Peer], who: int, line: bytes) -> None:
    peer, kind, rest = peers[who], line[0] & 0xF0, line[1:]
    match kind:
        case 0x40:
            _happen(world, peers, who, rest)
        case 0x60 | 0x70:
            peer.send_raw(json.dumps(_build(rest)))
        case _:
            peer.send_raw(rest.decode(errors="replace").encode())  # (what is no UTF-8 never gets past the frames)


def _happen(world: World, peers: list[Peer], who: int, rest: bytes) -> None:
    peer, number = peers[who], int.from_bytes(rest[:2], "big")
    match number % 5:
        case 0:
            peer.flush(number // 5)
        case 1:
            peer.take()
        case 2:
            world.wait(number / 10)
        case 3:
            peer.hang_up()
            world.peers.remove(peer)
            peers[who] = world.open()
        case _:
            peer.session.advance()
            world.check()


def _build(rest: bytes) -> dict[str, object]:
    """Return a request that is nearly always a good one."""
    op, a, b, c = (*rest[:4], *bytes(4))[:4]
    built: dict[str, object] = {"op": _OPS[op % len(_OPS)], "id": b % 8 + 1}
    epoch = {"epoch": "wrong" if c & 8 else f"{random.Random(1).getrandbits(48):012x}", "seq": a % 16}
    match built["op"]:
        case "publish":
            built |= {"topic": _TOPICS[a % len(_TOPICS)], "data": "x" * c if c & 1 else None, "retain": bool(c & 2)}
            built |= {"key": f"{b % 4:016d}"} if c & 4 else {}
            built |= {"echo": False} if c & 8 else {}
        case "subscribe":
            built |= {"filter": _FILTERS[a % len(_FILTERS)]}
            built |= [{}, {"since": epoch}, {"last": a % 9}, {"retained": False}][c % 4]
        case "unsubscribe":
            built |= {"sub": a % 8 + 1}
        case "history":
            built |= {"filter": _FILTERS[a % len(_FILTERS)]}
            built |= [{}, {"since": epoch}, {"limit": a % 9}, {"since": epoch, "limit": 1}][c % 4]
        case "presence":
            built |= {"topic": _TOPICS[a % len(_TOPICS)]}
        case "authenticate":
            built |= {"token": "a.b"}
        case _:
            pass
    return built
