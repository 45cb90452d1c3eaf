r"""Bytes to frames and frames to bytes, for STOMP 1.0, 1.1 and 1.2.

Decoding is incremental: `feed` takes any piece of the stream, `next_frame` gives the next complete frame or None. Work
is done per line and per frame by the C code of `bytes` and `str`, never per octet in Python, and a piece that was
searched once is not searched again. What does not fit the limits is refused from its beginning, not after it was held.

The versions differ in four things only, and all of them stand in this file: escapes in headers (none in 1.0; `\n`
`\c` `\\` in 1.1; `\r` too in 1.2; never in CONNECT, STOMP, CONNECTED), blanks around header names and values (trimmed
in 1.0 only), a raw CR inside a header line (an error in 1.2 only) and the body of SUBSCRIBE (ignored in 1.0, as that
specification says; else only SEND, MESSAGE and ERROR may have one). Where peers are known to be sloppy and nothing can
be misread, we are generous: CRLF in every version, a raw colon in a value, NULs and EOLs between frames.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NoReturn

from chat.errors import Code, RemoteProtocolError
from chat.stomp.frames import BODY_COMMANDS, CLIENT_COMMANDS, SERVER_COMMANDS, UNESCAPED_COMMANDS, Frame, Version
from chat.stomp.limits import COMMAND_BYTES_MAX, Limits

HEART_BEAT: Final = b"\n"

_CONTENT_LENGTH_DIGITS_MAX: Final = 10
"""More digits than any body that a machine holds: such a number is not even read."""

_PADDING: Final = " \t"
_BETWEEN_FRAMES: Final = re.compile(rb"[\r\n\0]*")
_ESCAPE: Final = re.compile(r"\\(.?)", re.DOTALL)
_ESCAPES: Final = {
    Version.V11: {"n": "\n", "c": ":", "\\": "\\"},
    Version.V12: {"n": "\n", "c": ":", "\\": "\\", "r": "\r"},
}


class FrameDecoder:
    """One direction of one connection. After it raised `RemoteProtocolError` it must not be used again.

    `version` is None until CONNECT has been read; whoever negotiates sets it, and it holds for all later frames.
    `consumed` counts the bytes of complete frames and of what stood between them.
    """

    __slots__ = (
        "_body_at",
        "_buffer",
        "_commands",
        "_head",
        "_length",
        "_limits",
        "_lines",
        "_searched",
        "consumed",
        "version",
    )

    def __init__(self, limits: Limits, *, commands: frozenset[str] = CLIENT_COMMANDS) -> None:
        self.version: Version | None = None
        self.consumed = 0
        self._limits = limits
        self._commands = commands
        self._buffer = bytearray()
        self._searched = 0  # bytes of the buffer in which the end being looked for is known not to begin
        self._lines = 0  # line ends in that part: the headers so far of a head without end
        self._head: tuple[str, dict[str, str]] | None = None  # of the frame whose body is awaited
        self._body_at = 0
        self._length: int | None = None

    def feed(self, data: bytes) -> None:
        """Take the next piece of the stream, of any size."""
        self._buffer += data

    @property
    def buffered(self) -> int:
        """Bytes held of a frame that is not complete."""
        return len(self._buffer)

    def next_frame(self) -> Frame | None:
        """The next complete frame, or None when more bytes are needed."""
        if self._head is None and not self._read_head():
            return None
        return self._read_body()

    def end_of_message(self) -> Frame | None:
        """To be called when a WebSocket message ends: the frame that lacks nothing but its NUL, if there is one.

        Some WebSocket stacks cut the final NUL off a text message (react-native#12731). With a complete content-length
        nothing is in doubt. Should the NUL come in the next message after all, it is skipped there.
        """
        if self._head is None or self._length is None or len(self._buffer) != self._body_at + self._length:
            return None
        return self._take(len(self._buffer), len(self._buffer))

    # ------------------------------------------------------------ head

    def _read_head(self) -> bool:
        buffer = self._buffer
        if not buffer:
            return False
        if buffer[0] in b"\n\0\r":  # only between frames: no command begins so
            between = _BETWEEN_FRAMES.match(buffer)
            self._drop(between.end() if between else 0)
            if not buffer:
                return False
        start = max(self._searched - 2, 0)  # a blank line may straddle two pieces
        bound = self._limits.head_bytes_max
        end = buffer.find(b"\n\n", start, bound)
        body_at = end + 2
        crlf = buffer.find(b"\n\r\n", start, bound if end < 0 else end + 1)
        if crlf >= 0:
            end, body_at = crlf, crlf + 3
        if end < 0:
            self._refuse_endless_head(start)
            return False
        head = bytes(buffer[:end])
        command, headers = self._parse_head(head)
        self._length = self._content_length(command, headers)
        self._head = (command, headers)
        self._body_at = self._searched = body_at
        return True

    def _refuse_endless_head(self, start: int) -> None:
        """Refuse a head that is not complete as soon as no continuation could make it good."""
        buffer, limits = self._buffer, self._limits
        first = buffer.find(b"\n", 0, COMMAND_BYTES_MAX)
        if first < 0 and len(buffer) < COMMAND_BYTES_MAX and 0 not in buffer:
            return
        command = bytes(buffer[: first if first >= 0 else COMMAND_BYTES_MAX]).removesuffix(b"\r").decode("latin-1")
        if first < 0 or command not in self._commands:
            self._refuse_command(command, self._whole_lines())
        if buffer.find(b"\0", start, limits.head_bytes_max) >= 0:
            self._fail(Code.BAD_FRAME, "NUL before the blank line that ends the headers", self._whole_lines())
        self._lines += buffer.count(b"\n", self._searched, limits.head_bytes_max)
        self._searched = len(buffer)
        if self._lines - 1 > limits.headers_max:
            self._fail(Code.TOO_MANY_HEADERS, f"more than {limits.headers_max} headers", self._whole_lines())
        full = len(buffer) >= limits.head_bytes_max
        last_line = len(buffer) - 1 - buffer.rfind(b"\n")
        if full or last_line > limits.header_bytes_max + 1:  # one more for the CR of a CRLF
            self._check_head_size(bytes(buffer[: limits.head_bytes_max]), self._whole_lines())
        if full:
            self._fail(
                Code.HEADERS_TOO_LARGE, f"more than {limits.head_bytes_max} bytes of headers", self._whole_lines()
            )

    def _whole_lines(self) -> bytes:
        """The complete lines of a head that is not complete."""
        return bytes(self._buffer[: max(self._buffer.rfind(b"\n", 0, self._limits.head_bytes_max), 0)])

    def _check_head_size(self, head: bytes, whole_lines: bytes) -> None:
        limits, lines = self._limits, head.split(b"\n")
        if len(lines) - 1 > limits.headers_max:
            self._fail(Code.TOO_MANY_HEADERS, f"more than {limits.headers_max} headers", whole_lines)
        if max(len(line.removesuffix(b"\r")) for line in lines) > limits.header_bytes_max:
            self._fail(Code.HEADER_TOO_LONG, f"a header of more than {limits.header_bytes_max} bytes", whole_lines)

    def _parse_head(self, head: bytes) -> tuple[str, dict[str, str]]:
        try:
            text = head.decode()
        except UnicodeDecodeError:
            self._fail(Code.NOT_UTF8, "headers are not UTF-8", head)
        if "\0" in text:
            self._fail(Code.BAD_FRAME, "NUL before the blank line that ends the headers", head)
        lines = text.split("\n")
        if "\r" in text:
            lines = [line.removesuffix("\r") for line in lines]
            if self.version is Version.V12 and any("\r" in line for line in lines):
                self._fail(Code.BAD_HEADER, "a carriage return inside a header", head)
        command = lines.pop(0)
        if command not in self._commands:
            self._refuse_command(command, head)
        if len(lines) > self._limits.headers_max or len(head) > self._limits.header_bytes_max:
            self._check_head_size(head, head)
        try:
            headers = dict([line.split(":", 1) for line in lines])
        except ValueError:  # a line without a colon
            self._refuse_line(head)
        if "" in headers:
            self._refuse_line(head)
        if len(headers) != len(lines):  # some are repeated: the first wins
            headers |= dict([line.split(":", 1) for line in reversed(lines)])
        if self.version is Version.V10:
            headers = self._trimmed(headers, head)
        elif "\\" in text and self.version is not None and command not in UNESCAPED_COMMANDS:
            headers = self._unescaped(headers, self.version, head)
        return command, headers

    def _trimmed(self, headers: dict[str, str], head: bytes) -> dict[str, str]:
        trimmed: dict[str, str] = {}
        for name, value in headers.items():
            trimmed.setdefault(name.strip(_PADDING), value.strip(_PADDING))
        if "" in trimmed:
            self._refuse_line(head)
        return trimmed

    def _unescaped(self, headers: dict[str, str], version: Version, head: bytes) -> dict[str, str]:
        unescaped: dict[str, str] = {}
        try:
            for name, value in headers.items():
                unescaped.setdefault(unescape(name, version), unescape(value, version))
        except RemoteProtocolError as error:
            self._fail(error.code, error.message, head)
        return unescaped

    def _content_length(self, command: str, headers: dict[str, str]) -> int | None:
        text = headers.get("content-length")
        if text is None:
            return None
        if self.version is None:
            text = text.strip(_PADDING)  # CONNECT of a 1.0 client: the version is not agreed yet
        receipt = headers.get("receipt")
        if not (text.isascii() and text.isdigit() and len(text) <= _CONTENT_LENGTH_DIGITS_MAX):
            raise RemoteProtocolError(
                Code.BAD_CONTENT_LENGTH, "content-length is not a number of octets", receipt_id=receipt
            )
        length = int(text)
        if length and not self._may_have_body(command):
            self._refuse_any_body(command, receipt)
        if length > self._limits.body_bytes_max:
            self._refuse_body(receipt)
        return length

    # ------------------------------------------------------------ body

    def _read_body(self) -> Frame | None:
        assert self._head is not None
        command, headers = self._head
        buffer, at = self._buffer, self._body_at
        if self._length is not None:
            end = at + self._length
            if len(buffer) <= end:
                return None
            if buffer[end]:
                raise RemoteProtocolError(
                    Code.BAD_CONTENT_LENGTH,
                    "no NUL after the octets that content-length counts",
                    receipt_id=headers.get("receipt"),
                )
            return self._take(end, end + 1)
        if not self._may_have_body(command):
            if len(buffer) <= at:
                return None
            if buffer[at]:
                self._refuse_any_body(command, headers.get("receipt"))
            return self._take(at, at + 1)
        bound = at + self._limits.body_bytes_max + 1
        end = buffer.find(b"\0", self._searched, bound)
        if end >= 0:
            return self._take(end, end + 1)
        if len(buffer) >= bound:
            self._refuse_body(headers.get("receipt"))
        self._searched = len(buffer)
        return None

    def _may_have_body(self, command: str) -> bool:
        return command in BODY_COMMANDS or (command == "SUBSCRIBE" and self.version is Version.V10)

    def _take(self, end: int, frame_end: int) -> Frame:
        assert self._head is not None
        command, headers = self._head
        frame = Frame(command, headers, bytes(self._buffer[self._body_at : end]))
        self._head = self._length = None
        self._drop(frame_end)
        return frame

    def _drop(self, count: int) -> None:
        del self._buffer[:count]
        self.consumed += count
        self._searched = self._lines = 0

    # ------------------------------------------------------------ refusals

    def _refuse_line(self, head: bytes) -> NoReturn:
        self._fail(Code.BAD_HEADER, "a header line is name, colon, value", head)

    def _refuse_body(self, receipt: str | None) -> NoReturn:
        raise RemoteProtocolError(
            Code.BODY_TOO_LARGE, f"a body of more than {self._limits.body_bytes_max} bytes", receipt_id=receipt
        )

    def _refuse_any_body(self, command: str, receipt: str | None) -> NoReturn:
        raise RemoteProtocolError(Code.BODY_NOT_ALLOWED, f"{command} may not have a body", receipt_id=receipt)

    def _refuse_command(self, command: str, head: bytes) -> NoReturn:
        if command in CLIENT_COMMANDS or command in SERVER_COMMANDS:
            self._fail(Code.UNEXPECTED_FRAME, f"{command} is sent by the other side", head)
        self._fail(Code.UNKNOWN_COMMAND, "the first line is no STOMP command", head)

    def _fail(self, code: Code, message: str, whole_lines: bytes) -> NoReturn:
        """Refuse a frame whose headers could not be read as a whole, with its receipt if that one can be."""
        raise RemoteProtocolError(code, message, receipt_id=self._receipt_in(whole_lines)) from None

    def _receipt_in(self, whole_lines: bytes) -> str | None:
        for line in whole_lines.partition(b"\0")[0].split(b"\n")[1:]:
            if line.startswith(b"receipt:") and len(line) <= self._limits.header_bytes_max:
                try:
                    value = line.removeprefix(b"receipt:").removesuffix(b"\r").decode()
                    if self.version is None or self.version is Version.V10:
                        return value.strip(_PADDING)
                    return unescape(value, self.version)
                except (UnicodeDecodeError, RemoteProtocolError):
                    return None
        return None


def unescape(text: str, version: Version) -> str:
    """A header name or value as it was meant. An escape that the version does not define is fatal (STOMP 1.2)."""
    if "\\" not in text or version is Version.V10:
        return text
    escapes = _ESCAPES[version]

    def plain(match: re.Match[str]) -> str:
        try:
            return escapes[match[1]]
        except KeyError:
            raise RemoteProtocolError(Code.BAD_ESCAPE, "a header has an undefined escape sequence") from None

    return _ESCAPE.sub(plain, text)


def escape(text: str, version: Version | None) -> str:
    """A header name or value as the version writes it, so that it can never end its line.

    Without escapes (1.0, and None: CONNECT, STOMP, CONNECTED) a line end becomes a space: a header of somebody on 1.2
    may hold one, and written raw it would let that person write headers of others. NUL never stands in a head.
    """
    if "\0" in text:
        text = text.replace("\0", "\N{REPLACEMENT CHARACTER}")
    if version is Version.V12 or version is Version.V11:
        text = text.replace("\\", "\\\\").replace("\n", "\\n").replace(":", "\\c")
        # 1.1 has no escape for CR; inside a line it takes one raw.
        return text.replace("\r", "\\r") if version is Version.V12 else text
    return text.replace("\r", " ").replace("\n", " ")


def encode_frame(command: str, headers: Mapping[str, str], body: bytes, version: Version | None) -> bytes:
    """A whole frame. `content-length` is written by us wherever a body may stand, and counts octets."""
    lines = _header_lines(headers.items(), None if command in UNESCAPED_COMMANDS else version)
    length = f"content-length:{len(body)}\n" if command in BODY_COMMANDS else ""
    return b"".join((f"{command}\n{lines}{length}\n".encode("utf-8", "replace"), body, b"\0"))


def message_prefix(version: Version, subscription_id: str | None, destination: str) -> bytes:
    """What begins every MESSAGE of one subscription: made once when it begins, written before every suffix."""
    own = [("destination", destination)]
    if subscription_id is not None:
        own.insert(0, ("subscription", subscription_id))
    return f"MESSAGE\n{_header_lines(own, version)}".encode("utf-8", "replace")


def ack_line(version: Version, ack_id: str) -> bytes:
    """The header that a client acknowledge mode adds between prefix and suffix. Only 1.2 has it."""
    return f"ack:{ack_id}\n".encode() if version is Version.V12 else b""


def message_suffix(version: Version, headers: Sequence[tuple[str, str]] | Mapping[str, str], body: bytes) -> bytes:
    """The rest of a MESSAGE, the same for all its subscribers of one version: made once per event."""
    lines = _header_lines(headers.items() if isinstance(headers, Mapping) else headers, version)
    return b"".join((f"{lines}content-length:{len(body)}\n\n".encode("utf-8", "replace"), body, b"\0"))


def _header_lines(headers: Iterable[tuple[str, str]], version: Version | None) -> str:
    """All header lines, without a `content-length` (ours is the true one).

    Most headers need no escape, and the few that do mostly for a colon in the value (`x-time`). So the lines are put
    together first and looked at as one text; each by itself only if that shows something.
    """
    pairs = [pair for pair in headers if pair[0] != "content-length"]
    lines = [f"{name}:{value}\n" for name, value in pairs]
    text = "".join(lines)
    count = len(lines)
    if text.count("\n") == count and not ("\\" in text or "\r" in text or "\0" in text):
        if text.count(":") == count:
            return text
        if version is Version.V12 or version is Version.V11:
            return "".join(
                [
                    line if line.count(":") == 1 else f"{escape(name, version)}:{escape(value, version)}\n"
                    for line, (name, value) in zip(lines, pairs, strict=True)
                ]
            )
    if version is None or version is Version.V10:
        pairs = [pair for pair in pairs if ":" not in pair[0]]  # without escapes such a name would end early
    return "".join([f"{escape(name, version)}:{escape(value, version)}\n" for name, value in pairs])
