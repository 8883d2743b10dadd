from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage

from tercet_broker.core import BrokerSettings, HistorySettings, LimitSettings, NamespaceSettings, Session, paging
from tercet_broker.core.replay import SCAN
from tercet_broker.runtime import Connection, DaemonSettings, TimeoutSettings
from tercet_broker.runtime.frames import Frame, FrameReader
from tercet_protocol import CloseCode, Opcode, encode_close_frame, encode_frame

if TYPE_CHECKING:
    from tests.runtime.conftest import Echo, Logs, Serve

SMALL = DaemonSettings(broker=BrokerSettings(limits=LimitSettings(message_bytes=200)))
TEXT, BINARY, MORE, CLOSE, PING, PONG = (
    Opcode.TEXT,
    Opcode.BINARY,
    Opcode.CONTINUATION,
    Opcode.CLOSE,
    Opcode.PING,
    Opcode.PONG,
)


@pytest.fixture
def echoes(tools: Any) -> Callable[[Connection], Echo]:
    """Open an echo on each connection; they stand in its attribute `made`."""
    made: list[Any] = []

    def open_endpoint(connection: Connection) -> Any:
        made.append(tools.Echo(connection))
        return made[-1]

    open_endpoint.made = made  # type: ignore[attr-defined]
    return open_endpoint


# The lane changes nothing

# A frame, or a sequence of them: (opcode, payload, fin, rsv, masked).
Recipe = tuple[int, bytes, bool, int, bool]
TEXTS = st.text(max_size=60).map(str.encode)
PAYLOADS = st.one_of(TEXTS, st.binary(max_size=60))


def whole(opcode: int, payload: bytes) -> list[Recipe]:
    return [(opcode, payload, True, 0, True)]


@st.composite
def fragmented(draw: st.DrawFn) -> list[Recipe]:
    opcode = draw(st.sampled_from([TEXT, BINARY]))
    payload = draw(TEXTS)
    count = draw(st.integers(2, 4))
    cuts = sorted(draw(st.lists(st.integers(0, len(payload)), min_size=count - 1, max_size=count - 1)))
    parts = [payload[a:b] for a, b in zip([0, *cuts], [*cuts, len(payload)], strict=True)]
    frames: list[Recipe] = []
    for i, part in enumerate(parts):
        frames.append((MORE if i else opcode, part, i == len(parts) - 1, 0, True))
        if draw(st.booleans()) and i < len(parts) - 1:
            frames += draw(CONTROLS)
    return frames


CONTROLS = st.tuples(st.sampled_from([PING, PONG]), st.binary(max_size=20)).map(lambda both: whole(*both))
MESSAGES = st.one_of(
    TEXTS.map(lambda payload: whole(TEXT, payload)),
    PAYLOADS.map(lambda payload: whole(BINARY, payload)),
    fragmented(),
    CONTROLS,
)
LAST: st.SearchStrategy[list[Recipe]] = st.one_of(
    st.just([]),
    st.sampled_from([b"", b"\x03\xe8", b"\x03\xe8bye", b"\x0b\xb8", b"\x03", b"\x03\xed", b"\x03\xe8\xff"]).map(
        lambda payload: whole(CLOSE, payload)
    ),
    st.tuples(
        st.integers(0, 15), st.binary(max_size=130), st.booleans(), st.sampled_from([0, 0, 0, 1, 4]), st.booleans()
    ).map(lambda frame: [frame]),
    st.just(whole(TEXT, b"x" * 401)),
    st.just(whole(TEXT, b"\xff")),
)


def _talk(tools: Any, data: bytes, cuts: list[int], *, lane: bool) -> tuple[bytes, list[bytes]]:
    """Return what a client that sends these bytes, so cut, gets from an echo, and what the echo got."""
    echoes: list[Echo] = []

    def open_endpoint(connection: Connection) -> Any:
        echoes.append(tools.Echo(connection))
        return echoes[-1]

    async def main() -> bytes:
        async with tools.serve_in_memory(SMALL, lane=lane, open_endpoint=open_endpoint) as broker:
            peer = await broker.raw()
            await peer.raw(tools.head())
            edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
            for a, b in itertools.pairwise(edges):
                with suppress(trio.BrokenResourceError):
                    await peer.raw(data[a:b])
                await trio.testing.wait_all_tasks_blocked()
            with suppress(trio.BrokenResourceError):
                await peer.end_writing()
            await peer.ended()
            return bytes(peer.received)

    received = trio.run(main, clock=MockClock(autojump_threshold=0))
    return received, echoes[0].received


@given(data=st.data())
def test_lane_changes_nothing_that_the_client_can_see(data: st.DataObject) -> None:
    """Byte for byte, the close code included: the same with and without."""
    import sys  # noqa: PLC0415

    tools = sys.modules["tests.runtime.conftest"]
    recipes = [frame for message in data.draw(st.lists(MESSAGES, max_size=8)) for frame in message]
    recipes += data.draw(LAST)
    recipes += [frame for message in data.draw(st.lists(MESSAGES, max_size=2)) for frame in message]
    stream = b"".join(
        tools.client_frame(op, payload, fin=fin, rsv=rsv, masked=m) for op, payload, fin, rsv, m in recipes
    )
    cuts = data.draw(st.lists(st.integers(0, 2000), max_size=6))
    with_lane = _talk(tools, stream, cuts, lane=True)
    assert with_lane[0].startswith(b"HTTP/1.1 101 ")
    assert _talk(tools, stream, cuts, lane=False) == with_lane
    assert _talk(tools, stream, [], lane=True) == with_lane


@pytest.mark.parametrize("lane", [True, False])
async def test_messages_of_both_ways_keep_their_order(
    serve: Serve, echoes: Callable[[Connection], Echo], tools: Any, lane: bool
) -> None:
    """C-021."""
    frame = tools.client_frame
    async with serve(open_endpoint=echoes, lane=lane) as broker:
        peer = await broker.peer()
        data = b""
        for i in range(100):
            n = str(i).encode()
            data += frame(TEXT, b"a" + n)
            data += frame(TEXT, b"b", fin=False) + frame(PING, n) + frame(MORE, n)
            data += frame(TEXT, b"c" + n)
        await peer.raw(data)
        for i in range(100):
            assert await peer.frame() == TextMessage(data=f"a{i}")
            assert await peer.frame() == Pong(str(i).encode())
            assert await peer.frame() == TextMessage(data=f"b{i}")
            assert await peer.frame() == TextMessage(data=f"c{i}")


# Congestion, stalls


@pytest.mark.parametrize("lane", [True, False])
@pytest.mark.parametrize("opcode", [TEXT, PING])
async def test_client_that_does_not_read_is_not_read_until_it_does(
    serve: Serve, tools: Any, autojump_clock: MockClock, echoes: Any, lane: bool, opcode: Opcode
) -> None:
    """Replies are bounded, and so are pongs; none is lost."""
    async with serve(open_endpoint=echoes, lane=lane, lockstep=True) as broker, trio.open_nursery() as nursery:
        peer = await broker.peer()
        count = 3000
        data = b"".join(tools.client_frame(opcode, str(i).encode()) for i in range(count))
        nursery.start_soon(peer.raw, data)
        await trio.testing.wait_all_tasks_blocked()
        (echo,) = echoes.made
        assert 64 <= echo.outbox.notices <= 66
        assert len(echo.received) < 200
        for i in range(count):
            event = await peer.frame()
            assert event == (TextMessage(data=str(i)) if opcode is TEXT else Pong(str(i).encode()))
        assert echo.outbox.notices == 0


async def test_client_that_takes_nothing_is_cut_after_the_write_timeout(
    serve: Serve, autojump_clock: MockClock, echoes: Any, logs: Logs
) -> None:
    settings = DaemonSettings(timeouts=TimeoutSettings(write=20.0))
    async with serve(settings, open_endpoint=echoes, lockstep=True) as broker:
        peer = await broker.peer()
        assert broker.listener is not None
        await trio.sleep(1)
        await peer.send(TextMessage(data="x"))
        await broker.listener.accepted[0].closed.wait()
        assert trio.current_time() == 21.0
    (entry,) = [entry for entry in logs if entry["event"] == "connection closed"]
    assert (entry["by"], entry["code"]) == ("broker", CloseCode.SLOW_CONSUMER)


@pytest.mark.parametrize("lane", [True, False])
async def test_client_that_is_cut_for_taking_nothing_gets_no_close(
    serve: Serve, autojump_clock: MockClock, echoes: Any, logs: Logs, lane: bool
) -> None:
    """E-024: even if it reads again in the next second. It is 1006 for the client, and 4000 in the log alone."""
    settings = DaemonSettings(timeouts=TimeoutSettings(write=20.0))
    async with serve(settings, transport="unix", open_endpoint=echoes, lane=lane) as broker:
        peer = await broker.peer()
        echoes.made[0].times = 20  # far more than a socket takes
        text = "x" * 100_000
        await peer.send(TextMessage(data=text))
        await trio.sleep(21)
        while (event := await peer.event()) is not None:
            assert isinstance(event, TextMessage)
        assert text.encode() in peer.received
        peer.websocket.receive_data(None)
        assert [*peer.websocket.events()] == [CloseConnection(CloseCode.ABNORMAL)]
    (entry,) = [entry for entry in logs if entry["event"] == "connection closed"]
    assert (entry["by"], entry["code"]) == ("broker", CloseCode.SLOW_CONSUMER)


async def test_long_search_is_not_taken_for_a_client_that_takes_nothing(
    serve: Serve, autojump_clock: MockClock, tools: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While there is nothing to be taken, however long that is, it is not the client who is slow."""
    broker_settings = BrokerSettings(unnamed=NamespaceSettings(history=HistorySettings()))
    settings = DaemonSettings(broker=broker_settings, timeouts=TimeoutSettings(write=3.0, heartbeat=1000.0))
    advance = Session.advance

    def advance_slowly(self: Session) -> None:
        autojump_clock.jump(2.0)
        advance(self)

    async with serve(settings) as broker:
        peer = await broker.peer()
        await peer.connect()
        await peer.raw(tools.say(op="publish", topic="t/some", data=1) * (10 * SCAN))
        monkeypatch.setattr(Session, "advance", advance_slowly)
        began = trio.current_time()
        await peer.say(op="subscribe", id=2, filter="t/none/+", last=5)
        await peer.expect("subscribed", id=2, live=False)
        await peer.expect("live", sub=2)
        assert trio.current_time() - began == 18.0, "the first page was looked at with the request"


async def test_subscribes_of_one_pass_leave_their_replays_to_the_next_ones(
    serve: Serve, autojump_clock: MockClock, tools: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many there are at once, only a few begin their replays then; the others do in turns."""
    advance, pages = paging.advance, list[str]()

    def advance_slowly(session: Session, *most: int) -> None:
        autojump_clock.jump(0.0015)
        pages.append("at once" if most else "in turns")
        advance(session, *most)

    async with serve() as broker:
        peer = await broker.peer()
        await peer.connect()
        await peer.say(op="publish", id=2, topic="t/some", data=1, retain=True)
        await peer.expect("published", id=2)
        monkeypatch.setattr(paging, "advance", advance_slowly)
        await peer.raw(b"".join(tools.say(op="subscribe", id=number, filter="t/#") for number in range(3, 13)))
        subscribed = [("subscribed", {"id": number}) for number in range(3, 13)]
        replayed = [(("message", {"sub": number}), ("live", {"sub": number})) for number in range(3, 13)]
        at_once = [subscribed[0], *replayed[0], subscribed[1], *replayed[1]]
        for op, fields in (*at_once, *subscribed[2:], *itertools.chain(*replayed[2:])):
            await peer.expect(op, **fields)
    assert pages == ["at once"] * 2 + ["in turns"] * 8


async def test_client_that_takes_a_little_is_not_cut(
    serve: Serve, autojump_clock: MockClock, echoes: Any, tools: Any
) -> None:
    """It answers pings, but is not read from while its replies wait; so it was taken for dead."""
    async with serve(open_endpoint=echoes, lockstep=True) as broker, trio.open_nursery() as nursery:
        peer = await broker.peer()
        text = b"x" * 100_000

        async def talk() -> None:
            await peer.raw(b"".join(tools.client_frame(TEXT, text) for _ in range(80)))
            while True:
                await trio.sleep(5)
                await peer.raw(tools.client_frame(PONG))

        nursery.start_soon(talk)
        size = 80 * len(encode_frame(TEXT, text))
        while size > 0:
            await trio.sleep(5)
            data = await peer.stream.receive_some(65536)
            assert data, f"cut off at {trio.current_time()}"
            assert not data.endswith(encode_close_frame(CloseCode.TIMEOUT))
            size -= len(data)
        assert trio.current_time() > 300
        nursery.cancel_scope.cancel()


# Closing


@pytest.mark.parametrize("lane", [True, False])
@pytest.mark.parametrize("payload", [b"", b"\x03\xe8", b"\x03\xe9away", b"\x0f\xa0x", b"\x13\x87"])
async def test_close_is_answered_with_the_same_code(
    serve: Serve, tools: Any, autojump_clock: MockClock, echoes: Any, lane: bool, payload: bytes
) -> None:
    async with serve(open_endpoint=echoes, lane=lane) as broker:
        peer = await broker.peer()
        before = len(peer.received)
        await peer.raw(
            tools.client_frame(TEXT, b"a") + tools.client_frame(CLOSE, payload) + tools.client_frame(TEXT, b"b")
        )
        await peer.ended()
        assert peer.received[before:] == encode_frame(TEXT, b"a") + encode_frame(CLOSE, payload)
        assert trio.current_time() == 0.0


@pytest.mark.parametrize("lane", [True, False])
@pytest.mark.parametrize("is_silent", [True, False])
async def test_our_close_waits_for_theirs_as_long_as_the_close_timeout(
    serve: Serve, tools: Any, autojump_clock: MockClock, echoes: Any, lane: bool, is_silent: bool
) -> None:
    async with serve(open_endpoint=echoes, lane=lane) as broker:
        peer = await broker.peer()
        assert broker.listener is not None
        (echo,) = echoes.made
        echo.end(CloseCode.DISCONNECTED, "out")
        assert await peer.frame() == CloseConnection(CloseCode.DISCONNECTED, "out")
        await peer.raw(tools.client_frame(TEXT, b"late") + tools.client_frame(PING, b"late"))
        await trio.sleep(1)
        if not is_silent:
            await peer.raw(tools.client_frame(CLOSE, b"\x11\x94"))
            assert await peer.event() is None
            await peer.stream.aclose()
        await broker.listener.accepted[0].closed.wait()
        assert trio.current_time() == (5.0 if is_silent else 1.0)
        assert echo.received == []


async def test_nothing_follows_the_answer_to_a_close(serve: Serve, tools: Any, autojump_clock: MockClock) -> None:
    """Messages that others published before the session had ended went out behind the Close."""

    @trio.lowlevel.enable_ki_protection
    def publish_always() -> None:
        session = broker.daemon.broker.sessions[-1]
        session.receive(b'{"op":"publish","topic":"a/b","data":1}', broker.daemon.clock.moment())

    class Busy(trio.abc.Instrument):
        is_on = False

        def after_task_step(self, task: trio.lowlevel.Task) -> None:  # noqa: ARG002 - the instrument's signature
            if self.is_on:
                publish_always()

    async with serve() as broker:
        peer, _ = await broker.client(), await broker.client()
        await peer.ask(op="subscribe", id=2, filter="a/#")
        busy = Busy()
        trio.lowlevel.add_instrument(busy)
        busy.is_on = True
        await peer.raw(tools.client_frame(CLOSE, b"\x03\xe8"))
        for _ in range(100):
            await trio.lowlevel.checkpoint()
        busy.is_on = False
        trio.lowlevel.remove_instrument(busy)
        await peer.ended()
        assert peer.received.endswith(encode_frame(CLOSE, b"\x03\xe8"))
        broker.assert_balanced()


async def test_response_comes_first_even_if_the_broker_drains_at_once(
    serve: Serve, tools: Any, autojump_clock: MockClock
) -> None:
    """At whatever step of the handshake a drain begins: a refusal, or a WebSocket that is told of it. C-007."""
    outcomes = set()
    for step in range(30):
        async with serve() as broker:
            await broker.client()  # so that there is a window

            class At(trio.abc.Instrument):
                left = step

                def after_task_step(self, task: trio.lowlevel.Task) -> None:  # noqa: ARG002 - the instrument's signature
                    if self.left == 0:
                        broker.daemon.drain()
                    self.left -= 1

            at = At()
            trio.lowlevel.add_instrument(at)
            peer = await broker.raw()
            await peer.raw(tools.head())
            await peer.ended()
            trio.lowlevel.remove_instrument(at)
            assert at.left < 0
            received = bytes(peer.received)
            outcomes.add(received[:12])
            if received.startswith(b"HTTP/1.1 101 "):
                assert b'"op":"drain"' in received.partition(b"\r\n\r\n")[2]
                assert encode_close_frame(CloseCode.SERVICE_RESTART)[2:4] in received
    assert outcomes == {b"HTTP/1.1 101", b"HTTP/1.1 503"}


# Faults


@pytest.mark.parametrize("where", ["receive", "fragments", "ping"])
async def test_fault_of_an_endpoint_ends_its_connection_alone(
    serve: Serve, tools: Any, autojump_clock: MockClock, echoes: Any, where: str
) -> None:
    def fail(*_: object) -> bool:
        raise ZeroDivisionError("a bug")

    async with serve(open_endpoint=echoes) as broker:
        peer, other = await broker.peer(), await broker.peer()
        bad = echoes.made[0]
        if where == "ping":
            bad.on_ping = fail
        else:
            bad.what = fail
            frame = tools.client_frame
            await peer.raw(frame(TEXT, b"x") if where == "receive" else frame(TEXT, b"x", fin=False) + frame(MORE))
        assert await peer.closed() == CloseCode.INTERNAL_ERROR
        assert [type(error) for error in bad.faults] == [ZeroDivisionError]
        await other.send(TextMessage(data="y"))
        while isinstance(event := await other.frame(), Ping):
            pass
        assert event == TextMessage(data="y")


async def test_link_that_has_ended_is_not_flushed_any_more(
    serve: Serve, autojump_clock: MockClock, echoes: Any, logs: Logs
) -> None:
    """The flusher may still have it on its list; it had the drainer started in a nursery that was closed.

    And a bug that shows while a connection ends does not keep it on the daemon's list.
    """
    async with serve(open_endpoint=echoes, lockstep=True) as broker:
        peer = await broker.peer()
        assert broker.listener is not None
        (echo,) = echoes.made
        await peer.send(TextMessage(data="never read"))
        await trio.testing.wait_all_tasks_blocked()
        echo.on_leave = lambda: 1 / 0
        echo.end(CloseCode.SERVICE_RESTART, "")
        await broker.listener.accepted[0].closed.wait()
        await trio.testing.wait_all_tasks_blocked()
        assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == ["fault in a connection"]
        echo.connection.wake()
        await trio.testing.wait_all_tasks_blocked()
        other = await broker.peer()
        await other.send(TextMessage(data="x"))
        assert await other.frame() == TextMessage(data="x")
        await other.stream.aclose()
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        await broker.daemon.stop()
        assert trio.current_time() == began


async def test_fault_while_writing_ends_its_connection_alone(serve: Serve, logs: Logs) -> None:
    """The flusher writes for everybody; a tracer that raises is as good a bug as any."""

    def trace(connection: str, direction: str, _: str, payload: bytes) -> None:
        if connection.startswith("1-") and direction == "out" and b"published" in payload:
            raise ZeroDivisionError("a bug")

    async with serve(tracer=trace) as broker:
        peer, other = await broker.client(), await broker.client()
        await peer.say(op="publish", id=2, topic="a", data=1)
        assert (await other.ask(op="publish", id=2, topic="a", data=1))["op"] == "published"
        while len(broker.daemon.statistics().sessions) > 1:
            await trio.lowlevel.checkpoint()
        assert (await other.ask(op="publish", id=3, topic="a", data=1))["op"] == "published"
    assert [entry["log_level"] for entry in logs if "fault" in entry["event"]] == ["error"]


async def test_fault_of_a_session_is_told_and_logged_once(
    serve: Serve, logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serve() as broker:
        peer, other = await broker.client(), await broker.client()
        monkeypatch.setattr(type(broker.daemon.broker), "namespace", lambda *_: 1 / 0)
        await peer.say(op="publish", id=2, topic="a", data=1)
        assert (await peer.hear())["code"] == "internal"
        assert await peer.closed() == CloseCode.INTERNAL_ERROR
        monkeypatch.undo()
        assert (await other.ask(op="publish", id=2, topic="a", data=1))["op"] == "published"
    assert [entry["log_level"] for entry in logs if "fault" in entry["event"]] == ["error"]


async def test_peer_that_leaves_at_once_is_no_fault(serve: Serve, tools: Any, logs: Logs) -> None:
    """trio-websocket may find that out while its request is being accepted."""
    async with serve(transport="ws") as broker:
        for _ in range(30):
            peer = await broker.raw()
            await peer.raw(tools.head())
            await peer.end_writing()
            await peer.ended()
    assert [entry for entry in logs if "fault" in entry["event"]] == []


async def test_binary_message_closes(serve: Serve) -> None:
    """C-011."""
    async with serve() as broker:
        peer = await broker.client()
        await peer.send(BytesMessage(data=b"x"))
        assert await peer.closed() == CloseCode.UNSUPPORTED_DATA


@pytest.mark.parametrize("lane", [True, False])
async def test_text_that_is_not_utf8_closes(serve: Serve, tools: Any, lane: bool) -> None:
    """C-012."""
    async with serve(lane=lane) as broker:
        peer = await broker.client()
        await peer.raw(tools.client_frame(TEXT, b"\xff"))
        assert await peer.closed() == CloseCode.INVALID_PAYLOAD


async def test_message_over_twice_the_limit_closes_and_a_smaller_one_does_not(serve: Serve, tools: Any) -> None:
    """E-010."""
    async with serve() as broker:
        peer = await broker.client()
        await peer.raw(tools.client_frame(TEXT, b" " * 2 * 262144))
        assert (await peer.hear())["code"] == "too_large"
        await peer.raw(tools.client_frame(TEXT, b" " * (2 * 262144 + 1))[:14])
        assert await peer.closed() == CloseCode.MESSAGE_TOO_BIG


# Fairness


class LongestStep(trio.abc.Instrument):
    """The most frames that were read within one step of one task: a count, so that no clock is needed."""

    def __init__(self) -> None:
        self.frames = 0
        self.most = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:  # noqa: ARG002 - the interface
        self.frames = 0

    def after_task_step(self, task: trio.lowlevel.Task) -> None:  # noqa: ARG002 - likewise
        self.most = max(self.most, self.frames)


@pytest.mark.parametrize(("kind", "bound"), [("pongs", 513), ("fragments", 64), ("messages", 513)])
async def test_flood_of_frames_lets_others_have_their_turn(
    serve: Serve, tools: Any, echoes: Any, monkeypatch: pytest.MonkeyPatch, kind: str, bound: int
) -> None:
    """trio-websocket asks for the next frame without a checkpoint: a chunk of small ones was one step."""
    frame = tools.client_frame
    flood = {
        "pongs": frame(PONG) * 5000,
        "fragments": frame(TEXT, b"x" * 64, fin=False) + frame(MORE, b"x" * 64, fin=False) * 900,
        "messages": frame(TEXT, b"x") * 5000,
    }[kind]
    longest = LongestStep()
    next_frame = FrameReader.next_frame

    def counted(reader: FrameReader) -> Frame | None:
        longest.frames += 1
        return next_frame(reader)

    monkeypatch.setattr(FrameReader, "next_frame", counted)
    async with serve(open_endpoint=echoes) as broker:
        peer = await broker.peer()
        trio.lowlevel.add_instrument(longest)
        await peer.raw(flood)
        await trio.testing.wait_all_tasks_blocked()
        trio.lowlevel.remove_instrument(longest)
    assert 0 < longest.most <= bound
