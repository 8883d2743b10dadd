"""The wire contract of Tercet, version 1: messages, codec, topics, codes. Pure, no I/O.

The contract itself is docs/reference/protocol.md.
"""

from __future__ import annotations

from .codec import (
    DecodeError,
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
from .codes import CloseCode, ErrorCode, GapReason, Reaction, reaction_to_close, reaction_to_status
from .framing import Opcode, encode_close_frame, encode_frame, encode_text_frame, is_sendable_close_code
from .messages import (
    MAX_ID,
    MAX_KEY_LENGTH,
    MIN_KEY_LENGTH,
    AnyEvent,
    AnyRequest,
    Authenticate,
    Authenticated,
    Connect,
    Connected,
    Drain,
    Error,
    Event,
    Gap,
    History,
    HistoryReply,
    Limits,
    Live,
    Member,
    Message,
    Ping,
    PingEvent,
    Pong,
    PongEvent,
    Position,
    PositionEvent,
    Presence,
    PresenceReply,
    Publish,
    Published,
    Reply,
    Request,
    Subscribe,
    Subscribed,
    Unsubscribe,
    Unsubscribed,
)
from .topics import (
    Filter,
    InvalidFilterError,
    InvalidTopicError,
    TopicError,
    is_reserved,
    parse_filter,
    split_topic,
)

SUBPROTOCOL = "tercet.v1.json"

__all__ = [
    "MAX_ID", "MAX_KEY_LENGTH", "MIN_KEY_LENGTH", "SUBPROTOCOL",
    "AnyEvent", "AnyRequest", "Authenticate", "Authenticated", "CloseCode", "Connect", "Connected", "DecodeError",
    "Drain", "Error", "ErrorCode", "Event", "Filter", "Gap", "GapReason", "History", "HistoryReply",
    "InvalidFilterError", "InvalidTopicError", "Limits", "Live", "Member", "Message", "Opcode", "Ping",
    "PingEvent", "Pong", "PongEvent", "Position", "PositionEvent", "Presence", "PresenceReply", "Publish",
    "Published", "Reaction", "Reply", "Request", "Subscribe", "Subscribed", "TopicError", "Unsubscribe",
    "Unsubscribed", "check_json", "decode_event", "decode_request", "encode", "encode_close_frame",
    "encode_delivery", "encode_frame", "encode_replay", "encode_text", "encode_text_frame", "from_json",
    "is_reserved", "is_sendable_close_code", "parse_filter", "peek_id", "reaction_to_close",
    "reaction_to_status", "split_topic", "to_json",
]
