"""Attacks with requests that are right, and ask for too much."""

from __future__ import annotations

import trio
from tests.integration.hostile.attacking import GONE, Siege, attack, end_of, error_of, pour


@attack("semantics", "error too_many_subscriptions from the 1001st on")
async def many_subscriptions(siege: Siege) -> str:
    """16,384 subscriptions."""
    peer = await siege.connected()
    counts = {"subscribed": 0, "error": 0}

    async def ask() -> None:
        for start in range(2, 16_386, 64):
            data = (siege.request("subscribe", id=n, filter=f"many/{n}/+") for n in range(start, start + 64))
            await peer.send(b"".join(data))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        while sum(counts.values()) < 16_384:
            message = await peer.message()
            if message["op"] in counts:
                counts[message["op"]] += 1
                assert message["op"] == "subscribed" or message["code"] == "too_many_subscriptions"
    await peer.leave()
    return f"error too_many_subscriptions from the {counts['subscribed'] + 1}st on"


@attack("semantics", "each message once")
async def hostile_filters(siege: Siege) -> str:
    """all 2^9 filters of `+` and `a` that match one topic, and publishes there."""
    peer = await siege.connected()
    for number in range(512):
        levels = ["+" if number >> bit & 1 else "a" for bit in range(9)]
        await peer.request("subscribe", id=number + 2, filter="/".join(["deep", *levels]))
    await peer.ask("ping", id=600)
    for number in range(50):
        await peer.request("publish", topic="deep" + "/a" * 9, data=number)
    await peer.request("ping", id=601)
    seen = []
    while (message := await peer.message()).get("id") != 601:
        if message["op"] == "message":
            seen.append(message["data"])
    assert seen == list(range(50))
    return "each message once"


@attack("semantics", "error unavailable, with `retry_after`")
async def namespaces_flood(siege: Siege) -> str:
    """a new namespace with each publish."""
    peer = await siege.connected()
    for number in range(100):
        reply = await peer.ask("publish", id=number + 2, topic=f"made-up-{siege.scheme}-{number}", data=1)
        if reply["op"] == "error":
            assert reply["retry_after"] > 0
            return f"error {reply['code']}, with `retry_after`"
    return "as many as it likes"


@attack("semantics", "error unavailable")
async def retained_flood(siege: Siege) -> str:
    """a new retained value with each publish."""
    peer = await siege.connected()
    for number in range(500):
        reply = await peer.ask("publish", id=number + 2, topic=f"kept/{number}", data=1, retain=True)
        if reply["op"] == "error":
            return f"error {reply['code']}"
    return "as many as it likes"


@attack("semantics", "error unavailable")
async def keys_flood(siege: Siege) -> str:
    """a new idempotency key with each publish."""
    peer = await siege.connected()
    for number in range(500):
        key = f"{siege.scheme}-{number:020d}"
        reply = await peer.ask("publish", id=number + 2, topic="kept/one", data=1, key=key)
        if reply["op"] == "error":
            return f"error {reply['code']}"
    return "as many as it likes"


@attack("semantics", "pages within `limits.history_*`")
async def history_walks(siege: Siege) -> str:
    """history with the largest limits, over and over, without reading the replies."""
    peer = await siege.connected()
    await peer.send(b"".join(siege.request("history", id=n, filter="kept/#", limit=1 << 40) for n in range(2, 150)))
    for _ in range(148):
        while (message := await peer.message())["op"] != "history":
            pass
        assert len(message["messages"]) <= 1000
    await peer.leave()
    return "pages within `limits.history_*`"


@attack("semantics", "each in pages, until it ends it")
async def last_walks(siege: Siege) -> str:
    """subscribes with the largest `last`, over and over, and ends half of those, without reading."""
    peer = await siege.connected()
    for number in range(100):
        await peer.request("publish", topic="kept/walked", data=number)
    asked = [siege.request("subscribe", id=n, filter="kept/walked", last=10_000) for n in range(2, 202)]
    for n in range(0, 200, 2):
        asked[n] += siege.request("unsubscribe", id=n + 1000, sub=n + 2)
    await peer.send(b"".join(asked) + siege.request("ping", id=300))
    live: set[int] = set()
    ended: set[int] = set()
    while len(live) < 100 or len(ended) < 100:
        message = await peer.message()
        assert message["op"] != "error", message
        if message["op"] == "live" and message["sub"] % 2:
            live.add(message["sub"])
        elif message["op"] == "unsubscribed":
            ended.add(message["id"] - 1000)
        assert message.get("sub") not in ended
    await peer.leave()
    return "each in pages, until it ends it"


@attack("semantics", "close 4000 (the subscriber who reads nothing), or the end of its stream")
async def never_reading(siege: Siege) -> str:
    """subscribes to what it publishes itself, and reads nothing."""
    peer = await siege.connected()
    await peer.request("subscribe", id=2, filter="kept/flood")
    try:
        with trio.move_on_after(10):
            while True:
                await peer.request("publish", topic="kept/flood", data="x" * 20_000)
    except GONE:
        pass
    # Its own queue is full of what it did not read, so the Close may be behind more than the kernel holds.
    await peer.end()
    return "close 4000 (the subscriber who reads nothing), or the end of its stream"


@attack("semantics", "close 3000")
async def without_connect(siege: Siege) -> str:
    """requests before `connect`."""
    peer = await siege.upgraded()
    await pour(peer, siege.request("publish", id=1, topic="x/y", data=1) * 50)
    return await end_of(peer)


@attack("semantics", "error forbidden, and is served on")
async def broker_topics(siege: Siege) -> str:
    """publishes as the broker."""
    return await error_of(siege, await siege.connected(), siege.request("publish", id=2, topic="$sys/x", data=1))


@attack("semantics", "a gap, or error bad_request")
async def forged_positions(siege: Siege) -> str:
    """resumes from positions that never were: other epochs, the last seq there can be, and what is no position."""
    got = set()
    forged: list[object] = [
        {"epoch": epoch, "seq": seq} for epoch in ("x", "\0", "e" * 64) for seq in (0, (1 << 53) - 1)
    ]
    forged += [{"epoch": "x", "seq": seq} for seq in (-1, 1 << 53, 1 << 63, 1.5, 1e300, True, None, "1")]
    forged += [{"epoch": "", "seq": 1}, {"epoch": "e" * 65, "seq": 1}, {"epoch": None, "seq": 1}, [], "x:1"]
    for since in forged:
        peer = await siege.connected()
        await peer.request("publish", topic="kept/position", data=1)
        await peer.request("subscribe", id=2, filter="kept/position", since=since)
        await peer.request("history", id=3, filter="kept/position", since=since)
        while (message := await peer.message()).get("id") != 3:
            if message["op"] == "gap":
                assert message["reason"] in {"epoch", "overflow"}, "others publish there as well"
                got.add("a gap")
        got.add(f"error {message['code']}" if message["op"] == "error" else "a gap" if "gap" in message else "nothing")
        await peer.leave()
    return ", or ".join(sorted(got))


@attack("semantics", "error duplicate_id for a subscription, an answer to each else")
async def same_ids(siege: Siege) -> str:
    """one id for everything, before anything was answered."""
    peer = await siege.connected()
    asked = ("history", "subscribe", "history", "subscribe", "ping", "unsubscribe")
    await peer.send(b"".join(siege.request(op, id=5, **_SAME[op]) for op in asked))
    got: list[str] = []
    while len(got) < len(asked):
        message = await peer.message()
        if message.get("id") == 5:
            got.append(message.get("code") or message["op"])
    assert got == ["history", "subscribed", "history", "duplicate_id", "pong", "unsubscribed"], got
    await peer.leave()
    return "error duplicate_id for a subscription, an answer to each else"


_SAME: dict[str, dict[str, object]] = {
    "history": {"filter": "kept/#"},
    "subscribe": {"filter": "kept/none", "retained": False},
    "unsubscribe": {"sub": 5},
    "ping": {},
}


@attack("semantics", "each message once, or not at all")
async def churning_filters(siege: Siege) -> str:
    """subscribes to overlapping filters and leaves them, 3,000 times, while it publishes there."""
    peer = await siege.connected()
    filters = ("kept/churn", "kept/+", "kept/#", "+/churn", "+/+", "#", "+/#")
    for number in range(0, 3000, 10):
        data = b""
        for id_ in range(number + 2, number + 12):
            options = {"retained": False} if filters[id_ % 7].startswith("kept") else {}
            data += siege.request("subscribe", id=id_, filter=filters[id_ % 7], **options)
            if id_ % 3 == 0:
                data += siege.request("publish", topic="kept/churn", data=f"{siege.scheme} {id_}")
            data += siege.request("unsubscribe", id=10_000 + id_, sub=id_)
        await peer.send(data)
        await peer.send(siege.request("ping", id=20_000 + number))
        seen: list[str] = []
        while (message := await peer.message()).get("id") != 20_000 + number:
            assert message["op"] != "error", message
            if message["op"] == "message" and str(message["data"]).startswith(f"{siege.scheme} "):
                seen.append(message["data"])
        assert len(seen) == len(set(seen))
    await peer.leave()
    return "each message once, or not at all"


@attack("semantics", "pages, in turns")
async def vain_histories(siege: Siege) -> str:
    """30 connections that look for what is not there in all that is kept, over and over, and then are gone."""
    publisher = await siege.connected()
    for number in range(1000):
        await publisher.request("publish", topic="kept/walked", data=number)
    await publisher.ask("ping", id=2)

    async def look() -> None:
        peer = await siege.connected()
        await peer.send(b"".join(siege.request("history", id=n, filter="kept/+/none") for n in range(2, 22)))
        for number in range(2, 12):
            reply = await peer.message()
            while reply["op"] != "history":
                reply = await peer.message()
            assert (reply["id"], reply["messages"]) == (number, [])
        peer.reset()

    async with trio.open_nursery() as nursery:
        for _ in range(30):
            nursery.start_soon(look)
    await publisher.leave()
    return "pages, in turns"
