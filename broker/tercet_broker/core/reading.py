"""Reading from a namespace: where a position stands in the log, how a replay starts, a page of history."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator

from attrs import define, frozen
from msgspec import Raw

from tercet_protocol import (
    ErrorCode,
    Filter,
    Gap,
    GapReason,
    History,
    HistoryReply,
    InvalidFilterError,
    Message,
    Position,
    Subscribe,
    parse_filter,
)

from .errors import RefusedError
from .log import Record
from .moment import Moment
from .namespace import Namespace
from .replay import SCAN, Loss, Replay
from .search import NewestSearch
from .settings import LimitSettings

# A topic is matched in a walk that can part at each level where a filter has a "+": 2^6 ways at most.
_MAX_SINGLE_WILDCARDS = 6


def parse_valid_filter(text: str) -> Filter:
    """Return `text` as a filter.

    Raises:
        RefusedError: `invalid_filter`.
    """
    try:
        filter_ = parse_filter(text)
    except InvalidFilterError as error:
        raise RefusedError(ErrorCode.INVALID_FILTER, str(error)) from error
    if filter_.levels.count("+") > _MAX_SINGLE_WILDCARDS:
        raise RefusedError(
            ErrorCode.INVALID_FILTER,
            f"a filter may have {_MAX_SINGLE_WILDCARDS} levels that are '+'; use '#', or fewer",
        )
    return filter_


def locate(namespace: Namespace, since: Position, first: int) -> tuple[int, Loss | None]:
    """Return the seq after which reading starts for someone who stands at `since`, and what is lost to him.

    `first` is the seq of the oldest message that he may read.
    """
    epoch, head = namespace.epoch, namespace.log.head
    if since.epoch != epoch:
        return first - 1, Loss(epoch, 0, first - 1, GapReason.EPOCH)
    if since.seq > head:
        return head, Loss(epoch, head, head, GapReason.UNKNOWN_POSITION)
    if since.seq >= first - 1:
        return since.seq, None
    return first - 1, Loss(epoch, since.seq, first - 1, GapReason.EXPIRED)


@frozen
class Start:
    """How a subscription begins.

    Attributes:
        replay: what it gets before it is live; None if it is live at once, which it never is after a gap.
        recovered: whether everything after `since` follows; None without `since`.
        gap: what is lost, announced before the replay.
    """

    replay: Replay | None = None
    recovered: bool | None = None
    gap: Loss | None = None


def start_replay(  # noqa: PLR0913 - a request, who asks, and what bounds it
    namespace: Namespace | None,
    filter_: Filter,
    request: Subscribe,
    *,
    connection: int,
    limits: LimitSettings,
    moment: Moment,
) -> Start:
    """Decide what a new subscription gets before it is live.

    Raises:
        RefusedError: `bad_request` for options that contradict each other or the filter.
    """
    since, last = request.since, request.last
    if since is not None and last is not None:
        raise RefusedError(ErrorCode.BAD_REQUEST, "subscribe: 'since' and 'last' exclude each other; send one of them")
    if last is not None and last > limits.last:
        raise RefusedError(ErrorCode.BAD_REQUEST, f"subscribe: 'last' may be {limits.last} at most, not {last}")
    if namespace is None:
        for name, value in (("since", since), ("last", last), ("retained", request.retained or None)):
            if value is not None:
                raise RefusedError(
                    ErrorCode.BAD_REQUEST,
                    f"subscribe: {name!r} needs a filter within one namespace, {filter_.text!r} spans them",
                )
        return Start()
    log = namespace.log
    log.expire(moment.now)
    cursor = beyond_after = log.head
    recovered, loss, search = None, None, None
    if since is not None:
        cursor, loss = locate(namespace, since, log.first)
        recovered = loss is None
        beyond_after = loss.after if loss is not None and namespace.has_history else cursor
    elif last and namespace.has_history:
        search = NewestSearch(namespace, filter_, connection, last)
    replay = Replay(
        namespace,
        filter_,
        connection,
        cursor=cursor,
        beyond_after=beyond_after,
        with_retained=request.retained is not False and not recovered and namespace.retained_of(filter_),
        search=search,
    )
    # After a loss there is a replay, be it an empty one: its gap comes before `live`, not after it.
    return Start(None if replay.is_done and loss is None else replay, recovered, loss)


@define(eq=False)
class Reading:
    """One `history` request that is being served: in turns with replays, and `SCAN` records a turn, as they are.

    Attributes:
        steps: looks at so many with each step, and returns the page.
    """

    namespace: Namespace
    filter: Filter
    steps: Generator[None, None, HistoryReply]

    @classmethod
    def of(  # noqa: PLR0913 - a request, who asks, and what bounds it
        cls,
        namespace: Namespace,
        filter_: Filter,
        request: History,
        *,
        connection: int,
        limits: LimitSettings,
        moment: Moment,
    ) -> Reading:
        """Begin to read one page of the log, oldest message first.

        With `since` it reads forward from there; without, the newest `limit`.
        It is bounded by count, bytes and the number of records looked at.
        """
        namespace.log.expire(moment.now)
        if request.since is None:
            steps = _newest_page(namespace, filter_, request, connection, limits)
        else:
            steps = _page_since(namespace, filter_, request, request.since, connection, limits)
        return cls(namespace, filter_, steps)

    def step(self) -> HistoryReply | None:
        """Look at the next few; return the page once it is whole."""
        try:
            next(self.steps)
        except StopIteration as over:
            page: HistoryReply = over.value
            return page
        return None


@define(eq=False)
class _Forward:
    """How far the log has been read: first what topics keep beyond the run, up to `through`, and then the run.

    Attributes:
        at: everything up to this seq has been looked at.
        left: how many more may be.
    """

    namespace: Namespace
    filter: Filter
    at: int
    through: int
    left: int

    @property
    def is_over(self) -> bool:
        """Whether there is nothing more to be had; what has left the run meanwhile is for the next page to tell."""
        log = self.namespace.log
        return not self.left or (self.at >= self.through and not log.first - 1 <= self.at < log.head)

    def look(self) -> Iterator[Record]:
        """Yield the next few that may match, as many as one step may look at."""
        limit, namespace = min(self.left, SCAN), self.namespace
        is_beyond = self.at < self.through
        records: Iterable[Record]
        if is_beyond:
            records = namespace.beyond_run(self.filter, self.at, self.through, limit)
        else:
            records = namespace.log.after(self.at, limit)
        for record in records:
            limit -= 1
            self.left -= 1
            self.at = record.seq
            yield record
        if is_beyond and limit:
            self.at = self.through


def _page_since(  # noqa: PLR0913, PLR0917 - as `Reading.of`
    namespace: Namespace, filter_: Filter, request: History, since: Position, connection: int, limits: LimitSettings
) -> Generator[None, None, HistoryReply]:
    """Return what follows a position, up to a bound, and the position that it was read through."""
    log, epoch = namespace.log, namespace.epoch
    first = log.first if namespace.has_history else log.head + 1  # the handover run is not for reading
    cursor, loss = locate(namespace, since, first)
    limit = min(request.limit or limits.history_messages, limits.history_messages)
    after = loss.after if loss is not None and namespace.has_history else cursor
    forward = _Forward(namespace, filter_, after, cursor, limits.history_scanned)
    read_through, size, messages, is_full = cursor, 0, list[Message](), False
    while not (is_full or forward.is_over):
        for record in forward.look():
            if filter_.matches_levels(record.topic.levels) and record.muted != connection:
                size += len(record.frame)
                is_full = bool(messages) and size > limits.history_bytes
                if is_full:
                    break
                messages.append(_message(record))
            read_through = record.seq
            is_full = len(messages) == limit
            if is_full:
                break
        else:
            read_through = forward.at
            if not forward.is_over:
                yield
    gap = None
    if loss is not None:
        gap = Gap(namespace=namespace.name, epoch=epoch, after=loss.after, through=loss.through, reason=loss.reason)
    return HistoryReply(
        id=request.id,
        messages=messages,
        next=Position(epoch, read_through),
        head=namespace.head,
        more=read_through < log.head,
        gap=gap,
    )


def _newest_page(
    namespace: Namespace, filter_: Filter, request: History, connection: int, limits: LimitSettings
) -> Generator[None, None, HistoryReply]:
    """Return the newest `limit`, and if a bound came first, the position after which they are all that matches."""
    limit = min(request.limit or limits.history_messages, limits.history_messages)
    messages: deque[Message] = deque()
    size, since, head = 0, None, namespace.head
    if not namespace.has_history:
        return HistoryReply(id=request.id, messages=[], next=head, head=head, more=False)
    search, left = NewestSearch(namespace, filter_, connection, limit), limits.history_scanned
    while True:
        for record in search.look(min(left, SCAN)):
            size += len(record.frame)
            if messages and size > limits.history_bytes:
                since = Position(namespace.epoch, record.seq)
                break
            messages.appendleft(_message(record))
        left -= min(left, SCAN)
        if search.is_over or not left or since is not None:
            break
        yield
    if since is None and not search.is_over:
        since = Position(namespace.epoch, search.reached - 1)
    return HistoryReply(id=request.id, messages=list(messages), next=head, head=head, more=False, since=since)


def _message(record: Record) -> Message:
    return Message(topic=record.topic.name, seq=record.seq, time=record.time, data=Raw(record.data))
