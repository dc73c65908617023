"""Splits the AMQP byte stream into deliveries of one channel and all other frames.

The first step of every delivered message, in ``FastConnection`` in the master. It takes bytes from the socket and
passes on, in order, batches of raw deliveries of the watched channel and every other frame unchanged. It takes a large
body frame in pieces as they arrive, which saves joining them first. Pure: no I/O, no clock. It must never decode a
header or a body, and never hold more than one unfinished content.

A frame (AMQP 0-9-1 §4.2.3) is: type u8, channel u16, size u32, payload, 0xCE. A content is a method frame, a header
frame (class u16, weight u16, body size u64, properties) and as many body frames as the body size needs. Frames of
other channels may come between them.
"""

from __future__ import annotations

import functools
import struct
from io import SEEK_CUR, BytesIO
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

#: ``(delivery_tag, deliver_args, header_payload, body)``: the arguments of the Deliver method after class and
#: method id, the payload of the content-header frame, and the whole body.
RawDelivery = tuple[int, bytes, bytes, bytes]

#: Class and method id of Basic.Deliver.
DELIVER = b"\x00\x3c\x00\x3c"

_FRAME_HEAD = struct.Struct(">BHI").unpack_from
_U64 = struct.Struct(">Q").unpack_from
#: The end mark of one frame, type and channel of the next, and its size.
_BETWEEN = struct.Struct(">4sI").unpack_from

_METHOD = 1
_HEADER = 2
_BODY = 3
_END = 0xCE

#: Body frames larger than this, in bytes, are taken in pieces.
_PIECES = 16_384
#: Bodies up to this size get their memory at once; RabbitMQ allows no larger ones.
_AT_ONCE = 512 * 1024 * 1024


class FrameError(ValueError):
    """The bytes are not a valid sequence of frames; the connection is unusable."""


class _Pattern(NamedTuple):
    """What the Deliver frames of one consumer and queue have in common.

    Such a frame differs from the one before in its delivery tag and redelivered bit. So a small message is cut out by
    two look-ups of fixed places, instead of three heads that are taken apart.
    """

    #: The frame up to its delivery tag.
    front: bytes
    #: The consumer tag.
    tag: bytes
    #: Size of the frame, in bytes.
    size: int
    #: Reads the delivery tag, what is between the frame and the header frame's size, that size, and the body's size.
    unpack: Callable[[bytes, int], tuple[Any, ...]]
    #: How many bytes it reads.
    reads: int
    #: The end mark of a frame, and the begin of a header or of a body frame on the same channel.
    to_header: bytes
    to_body: bytes


#: Of no frame: 255 is not a type.
_NO_PATTERN = _Pattern(b"\xff", b"", 0, _U64, 1 << 62, b"", b"")


def _pattern_of(frame: bytes) -> _Pattern:
    """Return the pattern of a complete Deliver frame, which is a valid one."""
    tag = frame[12 : 12 + frame[11]]
    front = frame[: 12 + len(tag)]
    reads = _tag_and_sizes(len(front), len(frame))
    channel = frame[1:3]
    return _Pattern(front, tag, len(frame), reads.unpack_from, reads.size, b"\xce\x02" + channel, b"\xce\x03" + channel)


@functools.lru_cache(64)
def _tag_and_sizes(front: int, size: int) -> struct.Struct:
    """Return the places of a Deliver frame and the begin of its header frame."""
    rest = size - front - 9
    return struct.Struct(f">{front}xQ{rest}x4sI4xQ")


class FrameSplitter:
    """The state of a connection's stream: its channel and unfinished content."""

    __slots__ = (
        "_args",
        "_header",
        "_inside",
        "_missing",
        "_on_batch",
        "_on_frame",
        "_pattern",
        "_whole",
        "channel",
        "fast_frames",
    )

    def __init__(
        self,
        on_batch: Callable[[bytes, list[RawDelivery]], None],
        on_frame: Callable[[bytes], None],
    ) -> None:
        """It calls ``on_batch`` with deliveries and ``on_frame``, in stream order.

        ``on_batch`` gets the consumer tag and the deliveries.
        """
        self._on_batch = on_batch
        self._on_frame = on_frame
        #: Channel whose deliveries are taken; 0 for none: every frame goes to ``on_frame``.
        self.channel = 0
        #: Total frames that became deliveries and did not go to ``on_frame``.
        self.fast_frames = 0
        #: Missing bytes of a body frame that was taken in part, with its end mark; 0 at a frame boundary.
        self._inside = 0
        self._pattern = _NO_PATTERN
        self._drop_content()

    def watch(self, channel: int) -> None:
        """Take the deliveries of ``channel`` from the next frame on; 0 stops that.

        Drops an unfinished content.
        """
        self.channel = channel
        #: Of the newest Deliver frame of ``channel``.
        self._pattern = _NO_PATTERN
        self._drop_content()

    def restart(self) -> None:
        """Begin another stream: watch no channel, drop everything unfinished."""
        self._inside = 0
        self.watch(0)

    @property
    def busy(self) -> bool:
        """Whether the next bytes must come here.

        A channel is watched, or a frame was taken in part.
        """
        return self.channel != 0 or self._inside != 0

    def _drop_content(self) -> None:
        #: Arguments of the Deliver whose content is arriving; empty for none.
        self._args = b""
        #: Payload of its header frame; empty until that arrives.
        self._header = b""
        self._missing = 0
        #: A body of several pieces, with its memory (``_body_of``). It returns its bytes without a copy, so no loop
        #: iteration has to join 100 MB.
        self._whole: BytesIO | None = None

    # hot: bench/amqp_drain.py; one loop so that the state stays in local variables.
    def feed(self, data: bytes) -> int:
        """Consume all complete frames in ``data``; return the number of bytes used.

        Raises ``FrameError``. The caller keeps the rest and passes it again in front of the next bytes.
        """
        pos, end = self._continue_part(data) if self._inside else 0, len(data)
        if self._inside:
            return pos
        mine = self.channel
        args, header, missing, whole = self._args, self._header, self._missing, self._whole
        tag_text = body = b""
        batch: list[RawDelivery] = []
        append = batch.append
        if pos and args and header and not missing:
            # The bytes just taken completed a content whose body frame had arrived in part.
            tag_text, delivery = self._finish()
            append(delivery)
            args, header, whole = self._args, self._header, self._whole
        front, known_tag, known_size, unpack, reads, to_header, to_body = self._pattern
        while end - pos >= 8:
            if not args and data.startswith(front, pos) and pos + reads <= end:
                # As the message before. All of it is here, unless one of the tests fails; then it goes the long way.
                number, between, size, length = unpack(data, pos)
                begin = pos + known_size + 7
                stop = begin + size
                if between == to_header and size >= 14 and stop + 8 <= end:
                    between, size = _BETWEEN(data, stop)
                    after = stop + 9 + size
                    if between == to_body and size == length and after <= end and data[after - 1] == _END:
                        if tag_text != known_tag:
                            # A batch has one consumer.
                            if batch:
                                self._on_batch(tag_text, batch)
                                batch = []
                                append = batch.append
                            tag_text = known_tag
                        append((number, data[pos + 11 : begin - 8], data[begin:stop], data[stop + 8 : after - 1]))
                        pos = after
                        self.fast_frames += 3
                        continue
            kind, channel, size = _FRAME_HEAD(data, pos)
            stop = pos + 8 + size
            if stop > end:
                # The frame is incomplete. Take what has arrived of a large body frame; leave any other to the caller.
                if size > _PIECES and kind == _BODY and channel == mine and header:
                    self._args, self._header, self._missing, self._whole = args, header, missing, whole
                    pos = self._take_part(data, pos, size)
                    missing, whole = self._missing, self._whole
                break
            if data[stop - 1] != _END:
                raise FrameError(f"frame of type {kind} on channel {channel} ends with 0x{data[stop - 1]:02x}")
            if channel == mine and args and kind != _METHOD:
                if kind == _HEADER and not header:
                    if size < 14:
                        raise FrameError(f"content header of {size} bytes")
                    header = data[pos + 7 : stop - 1]
                    missing = _U64(header, 4)[0]
                elif kind == _BODY and header and size <= missing:
                    if missing > size and whole is None:
                        whole = _body_of(missing)
                    missing -= size
                    if whole is not None:
                        whole.write(memoryview(data)[pos + 7 : stop - 1])
                    else:
                        body = data[pos + 7 : stop - 1]
                else:
                    raise FrameError(f"frame of type {kind} where {missing} bytes of a body were expected")
                pos = stop
                self.fast_frames += 1
                if not missing:
                    length = args[0]
                    tag = args[1 : 1 + length]
                    if tag != tag_text:
                        # A batch has one consumer.
                        if batch:
                            self._on_batch(tag_text, batch)
                            batch = []
                            append = batch.append
                        tag_text = tag
                    if whole is not None:
                        body = whole.getvalue()
                        whole = None
                    append((_U64(args, 1 + length)[0], args, header, body))
                    args = header = b""
                    body = b""
            elif channel == mine and mine and kind == _METHOD and data.startswith(DELIVER, pos + 7):
                if args or size < 18:
                    raise FrameError(f"Basic.Deliver of {size} bytes inside another content or too short")
                args = data[pos + 11 : stop - 1]
                if len(args) < args[0] + 10:
                    raise FrameError(f"Basic.Deliver of {size} bytes is too short for its consumer tag")
                if not data.startswith(front, pos):
                    self._pattern = _pattern_of(data[pos:stop])
                    front, known_tag, known_size, unpack, reads, to_header, to_body = self._pattern
                pos = stop
                self.fast_frames += 1
            else:
                # Pass on the earlier deliveries first: this frame may be a Cancel or a Close.
                if batch:
                    self._on_batch(tag_text, batch)
                    batch = []
                    append = batch.append
                self._args, self._header, self._missing, self._whole = args, header, missing, whole
                frame = data[pos:stop]
                pos = stop
                self._on_frame(frame)
                # The frame's handler may have called ``watch``, which drops the unfinished content.
                mine = self.channel
                args, header, missing, whole = self._args, self._header, self._missing, self._whole
                front, known_tag, known_size, unpack, reads, to_header, to_body = self._pattern
        self._args, self._header, self._missing, self._whole = args, header, missing, whole
        if batch:
            self._on_batch(tag_text, batch)
        return pos

    def _take_part(self, data: bytes, pos: int, size: int) -> int:
        """Take the arrived part of the body frame that begins at ``pos``.

        Returns the number of bytes used.
        """
        if size > self._missing:
            raise FrameError(f"frame of type {_BODY} where {self._missing} bytes of a body were expected")
        if self._whole is None:
            self._whole = _body_of(self._missing)
        self._inside = size + 1
        return pos + 7 + self._continue_part(memoryview(data)[pos + 7 :])

    def _continue_part(self, data: bytes | memoryview) -> int:
        """Take more of the frame that was taken in part; return the number of bytes used."""
        piece = min(self._inside - 1, len(data))
        if self._whole is not None:
            # If its content was dropped meanwhile, the bytes are skipped.
            self._whole.write(memoryview(data)[:piece])
            self._missing -= piece
        self._inside -= piece
        if piece == len(data):
            return piece
        if data[piece] != _END:
            raise FrameError(f"frame of type {_BODY} on channel {self.channel} ends with 0x{data[piece]:02x}")
        self._inside = 0
        self.fast_frames += 1
        return piece + 1

    def room(self) -> memoryview | None:
        """Return the place for the rest of a body frame that was taken in part.

        None if little is missing. The caller may write there, calls ``filled`` and releases the place.
        """
        left, whole = self._inside - 1, self._whole
        if left < _PIECES or whole is None:
            return None
        at = whole.tell()
        place = whole.getbuffer()[at : at + left]
        # A body that has no memory for all of it grows with each write.
        return place if len(place) == left else None

    def filled(self, count: int) -> None:
        """Take the first ``count`` bytes of ``room`` as received."""
        assert self._whole is not None
        self._whole.seek(count, SEEK_CUR)
        self._missing -= count
        self._inside -= count

    def _finish(self) -> tuple[bytes, RawDelivery]:
        """Return the content whose last frame came in parts, with its consumer tag."""
        assert self._whole is not None
        args, length = self._args, self._args[0]
        delivery = (_U64(args, 1 + length)[0], args, self._header, self._whole.getvalue())
        self._drop_content()
        return args[1 : 1 + length], delivery


def _body_of(size: int) -> BytesIO:
    """Return a place for a body of this size.

    Writing into a ``BytesIO`` that alone has its bytes changes them in place, and ``getvalue`` returns them.
    """
    return BytesIO(bytes(size)) if size <= _AT_ONCE else BytesIO()
