"""The crowd: those who come and go, what each of them does, and what became of it."""

from __future__ import annotations

import random
import socket
from collections import Counter
from typing import Any

import trio
from attrs import define, field

from .peer import GoneError, Peer

HOST = "127.0.0.1"
BULK = "b" * 8192
TOPICS: dict[str, tuple[float, bool]] = {  # {topic: (messages a second, whether they are retained)}
    **{f"chat/room{n}": (0.5, False) for n in range(50)},
    **{f"ticker/{n}": (2.0, True) for n in range(10)},
    **{f"log/{n}/line": (1.0, False) for n in range(5)},
    "red/all": (0.5, False),
    "blue/all": (0.5, False),
    "bulk/0": (10.0, False),
}
_MEAN_STAY = 60.0  # seconds
_GOODBYE = 10.0  # seconds
_ENDS = (trio.BrokenResourceError, trio.ClosedResourceError, OSError)


@define(eq=False)
class Watch:
    """One well-behaved subscription: the counters in a topic's messages follow each other, or there is a gap."""

    counts: Counter[str]
    last: dict[str, int] = field(factory=dict)  # {topic: the counter that was seen}
    position: dict[str, object] | None = None
    epoch: str | None = None
    may_skip: bool = False  # a gap was announced, after which each topic begins anew

    def take(self, message: dict[str, Any]) -> None:
        match message["op"]:
            case "subscribed":
                self.epoch = message.get("epoch")
                if self.position is not None and not message.get("recovered"):
                    self.counts["not recovered"] += 1
            case "message":
                self._deliver(message)
            case "gap":
                self.counts["gaps"] += 1
                self.last.clear()
            case "error":
                self.counts[f"error {message['code']}"] += 1
            case _:
                pass

    def _deliver(self, message: dict[str, Any]) -> None:
        topic, number = message["topic"], message["data"]["n"]
        self.counts["deliveries"] += 1
        before = self.last.get(topic)
        if before is not None and number != before + 1:
            self.counts["lost" if number > before else "repeated"] += 1
        self.last[topic] = number
        if self.epoch is not None:
            self.position = {"epoch": self.epoch, "seq": message["seq"]}


@define(eq=False)
class Crowd:
    """All of them, from one seed."""

    port: int
    size: int
    draw: random.Random
    counts: Counter[str] = field(factory=Counter)
    _numbers: Counter[str] = field(factory=Counter)  # {topic: how many were published}
    _unanswered: dict[str, dict[str, object]] = field(factory=dict)  # {topic: the publish that was not acknowledged}

    async def dial(self, *, small: bool = False) -> Peer:
        sock = trio.socket.socket()
        if small:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        try:
            await sock.connect((HOST, self.port))
        except BaseException:
            sock.close()
            raise
        self.counts["connections"] += 1
        return Peer(trio.SocketStream(sock))

    async def run(self, stopping: trio.Event) -> None:
        """Come and go until told to stop; then everyone leaves."""
        async with trio.open_nursery() as nursery:
            for topic in TOPICS:
                nursery.start_soon(self._publish, topic, stopping)
            async with trio.open_nursery() as crowd:
                for _ in range(self.size):
                    crowd.start_soon(self._seat)
                    await trio.sleep(0.01)
                await stopping.wait()
                crowd.cancel_scope.cancel()

    async def _publish(self, topic: str, stopping: trio.Event) -> None:
        """Be a topic's only publisher, in stays. Who is cut off says the last message again, with the same key."""
        while not stopping.is_set():
            try:
                await self._publish_for_a_stay(topic, stopping)
            except (GoneError, *_ENDS) as error:
                self.counts[f"publisher {getattr(error, 'code', None) or 'cut'}"] += 1
                await trio.sleep(1)

    async def _publish_for_a_stay(self, topic: str, stopping: trio.Event) -> None:
        rate, retain = TOPICS[topic]
        peer = await self.dial()
        async with peer.stream:
            await peer.connect()
            until = trio.current_time() + self.draw.expovariate(1 / _MEAN_STAY)
            while (trio.current_time() < until and not stopping.is_set()) or topic in self._unanswered:
                if topic not in self._unanswered:
                    self._numbers[topic] += 1
                    data = {"n": self._numbers[topic], **({"x": BULK} if topic.startswith("bulk/") else {})}
                    key = f"{self.draw.getrandbits(128):032x}"
                    self._unanswered[topic] = {"topic": topic, "data": data, "retain": retain, "key": key}
                await peer.send({"op": "publish", "id": 2, **self._unanswered[topic]})
                while not self._is_answered(await peer.messages()):
                    pass
                del self._unanswered[topic]
                await trio.sleep(self.draw.expovariate(rate))
            with trio.move_on_after(_GOODBYE):
                await peer.leave()

    def _is_answered(self, messages: list[dict[str, Any]]) -> bool:
        """Count the replies to publishes; each must be a good one."""
        replies = [one for one in messages if one["op"] in {"published", "error"} and one.get("id") == 2]
        self.counts["published"] += sum(one["op"] == "published" for one in replies)
        self.counts["refused"] += sum(one["op"] == "error" for one in replies)
        return bool(replies)

    async def _seat(self) -> None:
        """One place in the crowd, taken by one after the other."""
        while True:
            role = self.draw.choices(
                (self._listen, self._dribble, self._stop_reading, self._come_and_go), (90, 4, 2, 4)
            )[0]
            try:
                await role()
            except GoneError as error:
                self.counts[f"{role.__name__} {error.code or 'cut'}"] += 1
            except _ENDS:
                self.counts[f"{role.__name__} broken"] += 1

    async def _listen(self) -> None:
        """Subscribe and read; leave; half of those with a log come back to where they were."""
        topic = self.draw.choice(list(TOPICS))
        namespace = topic.partition("/")[0]
        asks: dict[str, object] = {"filter": topic}
        match namespace:
            case "red" | "blue":
                asks = {"filter": "+/all"}
            case "bulk":
                asks = {"filter": "ticker/+"}
            case "log":
                asks = {"filter": "log/#"}
            case "chat":
                asks = {"filter": topic, "last": 5}
        watch = Watch(self.counts)
        await self._read(watch, asks)
        if watch.position is not None and namespace in {"chat", "log"} and self.draw.random() < 0.5:
            await trio.sleep(self.draw.uniform(0, 5))
            self.counts["resumes"] += 1
            await self._read(watch, {"filter": asks["filter"], "since": watch.position})

    async def _read(self, watch: Watch, asks: dict[str, object]) -> None:
        peer = await self.dial()
        async with peer.stream:
            await peer.connect()
            await peer.send({"op": "subscribe", "id": 2, **asks})
            with trio.move_on_after(self.draw.expovariate(1 / _MEAN_STAY)):
                while True:
                    for message in await peer.messages():
                        watch.take(message)
            match self.draw.randrange(4):
                case 0:
                    peer.reset()
                case 1:
                    pass
                case _:
                    with trio.move_on_after(_GOODBYE):
                        await peer.leave()

    async def _dribble(self) -> None:
        """Read the flood, but slowly."""
        peer = await self.dial(small=True)
        async with peer.stream:
            await peer.connect()
            await peer.send({"op": "subscribe", "id": 2, "filter": "bulk/#"})
            while True:
                await peer.more(4096)
                peer._buffer.clear()  # noqa: SLF001 - it looks at nothing
                await trio.sleep(0.2)

    async def _stop_reading(self) -> None:
        """Subscribe to the flood, and take nothing of it."""
        peer = await self.dial(small=True)
        async with peer.stream:
            await peer.connect()
            await peer.send({"op": "subscribe", "id": 2, "filter": "#"})
            await trio.sleep(self.draw.expovariate(1 / _MEAN_STAY))
            if self.draw.random() < 0.5:
                peer.reset()

    async def _come_and_go(self) -> None:
        """Ask for this and that, and be gone."""
        peer = await self.dial()
        async with peer.stream:
            if self.draw.random() < 0.2:
                await trio.sleep(self.draw.uniform(0, 10))  # says nothing
                return
            await peer.connect()
            for number in range(2, 2 + self.draw.randrange(20)):
                await peer.send(
                    self.draw.choice(
                        [
                            {"op": "history", "id": number, "filter": "chat/#", "limit": 50},
                            {"op": "subscribe", "id": number, "filter": f"chat/room{number}", "last": 20},
                            {"op": "unsubscribe", "id": number, "sub": number - 1},
                            {"op": "ping", "id": number},
                            {"op": "publish", "id": number, "topic": f"junk/{number}", "data": number},
                        ]
                    )
                )
            if self.draw.random() < 0.5:
                await peer.messages()
            if self.draw.random() < 0.5:
                peer.reset()
