"""What a peer may do with HTTP: status lines, headers, lengths, chunks, encodings, order, time. For both forms alike."""

# ruff: noqa: E501 (a table is read by the row)

from __future__ import annotations

import gzip
import socket
import zlib
from typing import TYPE_CHECKING

from catalogue import (
    BROKEN,
    GOOD,
    INVALID,
    KEY,
    LATE,
    LIMITED,
    LOST,
    NOT_SENT,
    OVERLOADED,
    REFUSED,
    SERVER_ERROR,
    TOO_LARGE,
    TRUNCATED,
    UNREADABLE,
    WAIT_S,
    Case,
    Form,
    case,
)
from peers import CLOSE, END_OF_CHUNKS, READ, RESET, chunked, for_ever, http

from batchrun.endpoint.http import MOST_BODY_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKS = OK + b"transfer-encoding: chunked\r\n\r\n"
EVIL = http({"choices": [{"message": {"content": "EVIL"}}]})
SPACE = b"1\r\n \r\n"
LINE_END = b"1\r\n\n\r\n"
"""A chunk of a byte that is no text, and in a stream no event: the time ends it, and nothing else can."""
FIRST = {"first_byte_s": WAIT_S}
IDLE = {"idle_s": WAIT_S}
MIB = b"100000\r\n" + b" " * (1 << 20) + b"\r\n"


def lines(*headers: bytes, status: bytes = b"HTTP/1.1 200 OK") -> bytes:
    """The head of an answer."""
    return b"\r\n".join([status, *headers, b"", b""])


def head_of(body: bytes, *headers: bytes, status: bytes = b"HTTP/1.1 200 OK") -> bytes:
    """An answer with a right length, and further headers before it."""
    return lines(*headers, b"content-length: %d" % len(body), status=status) + body


def status_lines(form: Form) -> dict[str, Case]:
    """The first line, and answers that are none."""
    body = form.body

    def said(line: bytes) -> bytes:
        return head_of(body, status=line)

    return {
        "no reason": case(said(b"HTTP/1.1 200"), GOOD),
        "an empty reason": case(said(b"HTTP/1.1 200 "), GOOD),
        "a reason of other letters": case(said("HTTP/1.1 200 好的".encode()), GOOD),
        "a reason in latin-1": case(said("HTTP/1.1 200 très bien".encode("latin-1")), GOOD),
        "a reason of 4 KB": case(said(b"HTTP/1.1 200 " + b"x" * 4000), GOOD),
        "a reason of 100 KB": case(said(b"HTTP/1.1 200 " + b"x" * 100_000), UNREADABLE),
        "an endless reason": case([READ, b"HTTP/1.1 200 ", for_ever(b"x" * 65536)], UNREADABLE),
        "HTTP/1.0": case(said(b"HTTP/1.0 200 OK"), GOOD),
        "HTTP/1.0 to the end of the connection": case(lines(status=b"HTTP/1.0 200 OK") + body, GOOD),
        "HTTP/1.0 kept alive": case(head_of(body, b"connection: keep-alive", status=b"HTTP/1.0 200 OK"), GOOD),
        "HTTP/0.9, a body alone": case(body, UNREADABLE),
        "HTTP/2 in words": case(said(b"HTTP/2 200 OK"), UNREADABLE),
        "HTTP/9.9": case(said(b"HTTP/9.9 200 OK"), UNREADABLE),
        "a version that is a word": case(said(b"HTTP/x.y 200 OK"), UNREADABLE),
        "no version": case(said(b"HTTP 200 OK"), UNREADABLE),
        "small letters": case(said(b"http/1.1 200 OK"), UNREADABLE),
        "another protocol": case(said(b"ICY 200 OK"), UNREADABLE),
        "RTSP": case(said(b"RTSP/1.0 200 OK"), {UNREADABLE, GOOD}),
        "no status": case(said(b"HTTP/1.1"), UNREADABLE),
        "a status of two digits": case(said(b"HTTP/1.1 20 OK"), UNREADABLE),
        "a status of four digits": case(said(b"HTTP/1.1 2000 OK"), UNREADABLE),
        "a status of 100 digits": case(said(b"HTTP/1.1 " + b"2" * 100 + b" OK"), UNREADABLE),
        "a status that is a word": case(said(b"HTTP/1.1 OK OK"), UNREADABLE),
        "a negative status": case(said(b"HTTP/1.1 -200 OK"), UNREADABLE),
        "a status with a point": case(said(b"HTTP/1.1 2.0 OK"), UNREADABLE),
        "a status in other digits": case(said("HTTP/1.1 \uff12\uff10\uff10 OK".encode()), UNREADABLE),
        "a tab before the status": case(said(b"HTTP/1.1\t200 OK"), UNREADABLE),
        "a NUL in the reason": case(said(b"HTTP/1.1 200 O\x00K"), {UNREADABLE, GOOD}),
        "a carriage return in the reason": case(said(b"HTTP/1.1 200 O\rK"), UNREADABLE),
        "a status of 999": case(head_of(b"", status=b"HTTP/1.1 999 X"), SERVER_ERROR),
        "an echo of the request": case(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}", UNREADABLE),
        "nothing but line ends": case(b"\r\n" * 1000, {UNREADABLE, BROKEN}),
        "words": case(b"hello world\r\n\r\n", UNREADABLE),
        "1 MB of NUL": case([READ, b"\x00" * (1 << 20), CLOSE], UNREADABLE),
        "endless NUL": case([READ, for_ever(b"\x00" * 65536)], UNREADABLE),
        "every byte there is": case(bytes(range(256)) * 10, UNREADABLE),
        "an HTTP/2 preface": case(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", UNREADABLE),
        "HTTP/2 frames": case(b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64", UNREADABLE),
        "a TLS alert": case(b"\x15\x03\x01\x00\x02\x02\x28", UNREADABLE),
        "a TLS handshake": case(b"\x16\x03\x03\x00\x31\x02\x00\x00\x2d\x03\x03" + b"\x55" * 43, UNREADABLE),
        "SMTP, which speaks first": case([b"220 smtp ready\r\n", READ, CLOSE], UNREADABLE),
        "SSH, which speaks first": case([b"SSH-2.0-OpenSSH_9.7\r\n", READ, CLOSE], UNREADABLE),
        "the start of a status line alone": case(b"HTTP/1", BROKEN),
    }  # fmt: skip


def headers(form: Form) -> dict[str, Case]:
    """The lines under it."""
    body = form.body

    def more(*named: bytes) -> bytes:
        return head_of(body, *named)

    return {
        "a header without a name": case(more(b": x"), UNREADABLE),
        "a header line without a colon": case(more(b"garbage"), UNREADABLE),
        "a NUL in a name": case(more(b"x\x00y: z"), UNREADABLE),
        "a NUL in a value": case(more(b"x: y\x00z"), UNREADABLE),
        "a carriage return in a value": case(more(b"x: y\rz"), UNREADABLE),
        "a space in a name": case(more(b"x y: z"), UNREADABLE),
        "a space before the colon": case(more(b"x : z"), UNREADABLE),
        "a name of other letters": case(more("größe: 7".encode()), UNREADABLE),
        "a value of other letters": case(more("x: größe".encode()), GOOD),
        "a value of any bytes": case(more(b"x: " + bytes(range(128, 256))), GOOD),
        "a value with an escape sequence": case(more(b"x: \x1b[2J"), {UNREADABLE, GOOD}),
        "an empty value": case(more(b"x:"), GOOD),
        "a folded line": case(more(b"x: y", b" z"), {UNREADABLE, GOOD}),
        "a fold at once": case(lines(b" x: y") + body, {UNREADABLE, GOOD}),
        "a header of 7 KB": case(more(b"x: " + b"a" * 7000), GOOD),
        "a header of 100 KB": case(more(b"x: " + b"a" * 100_000), UNREADABLE),
        "a name of 100 KB": case(more(b"a" * 100_000 + b": x"), UNREADABLE),
        "an endless value": case([READ, OK + b"x: ", for_ever(b"a" * 65536)], UNREADABLE),
        "an endless name": case([READ, OK, for_ever(b"a" * 65536)], UNREADABLE),
        "fifty headers": case(more(*[b"x: y"] * 50), GOOD),
        "5,000 headers": case(more(*[b"x: y"] * 5000), UNREADABLE),
        "endless headers": case([READ, OK, for_ever(b"x: y\r\n" * 9000)], UNREADABLE),
        "no header at all": case(lines() + body, GOOD),
        "line feeds alone": case((head_of(b"") + b"?").replace(b"\r\n", b"\n").replace(b"content-length: 0", b"content-length: %d" % len(body))[:-1] + body, {UNREADABLE, GOOD}),
        "carriage returns alone": case(head_of(body).replace(b"\r\n", b"\r"), UNREADABLE),
        "content that calls itself HTML": case(more(b"content-type: text/html"), GOOD),
        "content that calls itself a picture": case(more(b"content-type: image/png"), GOOD),
        "a content type that is none": case(more(b"content-type: ;;;=\xff"), GOOD),
        "two content types": case(more(b"content-type: text/html", b"content-type: text/plain"), GOOD),
        "another character set": case(more(b"content-type: application/json; charset=utf-16"), GOOD),
        "cookies": case(more(b"set-cookie: a=b; Domain=example.com", b"set-cookie: \xff=;;"), GOOD),
        "an upgrade offered": case(more(b"upgrade: h2c", b"connection: upgrade"), GOOD),
        "closing announced": case(more(b"connection: close"), GOOD),
        "a wait asked for in 200": case(more(b"retry-after: 100000"), GOOD),
        "another place in 200": case(more(b"location: http://127.0.0.1:1/", b"refresh: 0; url=http://127.0.0.1:1/"), GOOD),
    }  # fmt: skip


def lengths(form: Form) -> dict[str, Case]:
    """How long the body is said to be, and is."""
    body, size = form.body, len(form.body)

    def says(*named: bytes, content: bytes = body) -> bytes:
        return lines(*named) + content

    return {
        "a length one too large": case(says(b"content-length: %d" % (size + 1)), form.whole),
        "a length 1,000 too large": case(says(b"content-length: %d" % (size + 1000)), form.whole),
        "a length that is reset": case([READ, says(b"content-length: %d" % (size + 1)), 0.2, RESET], form.whole),
        "a length one too small": case(says(b"content-length: %d" % (size - 1)), GOOD if form.stream else UNREADABLE),
        "a length of nothing": case(says(b"content-length: 0"), UNREADABLE),
        "no body": case(says(content=b""), TRUNCATED if form.stream else UNREADABLE),
        "a negative length": case(says(b"content-length: -2"), UNREADABLE),
        "a length with a plus": case(says(b"content-length: +%d" % size), UNREADABLE),
        "a length in hexadecimal": case(says(b"content-length: 0x10"), UNREADABLE),
        "a length that is a word": case(says(b"content-length: many"), UNREADABLE),
        "a length with a point": case(says(b"content-length: %d.0" % size), UNREADABLE),
        "a length of two numbers": case(says(b"content-length: %d, %d" % (size, size)), UNREADABLE),
        "an empty length": case(says(b"content-length:"), UNREADABLE),
        "a length with leading zeros": case(says(b"content-length: 000%d" % size), GOOD),
        "a length of 2^70": case(says(b"content-length: %d" % 2**70), UNREADABLE),
        "a length of 2^63": case(says(b"content-length: %d" % 2**63), {UNREADABLE, form.whole}),
        "two lengths that differ": case(says(b"content-length: 2", b"content-length: %d" % size), UNREADABLE),
        "two lengths that agree": case(says(*[b"content-length: %d" % size] * 2), UNREADABLE),
        "a length and chunks": case(lines(b"content-length: %d" % size, b"transfer-encoding: chunked") + b"%x\r\n%s\r\n" % (size, body) + END_OF_CHUNKS, UNREADABLE),
        "chunks and a length": case(lines(b"transfer-encoding: chunked", b"content-length: 3") + b"%x\r\n%s\r\n" % (size, body) + END_OF_CHUNKS, UNREADABLE),
        "to the end of the connection": case(says(), GOOD),
        "to the end of the connection, broken off": case(says(content=body[: size // 3]), TRUNCATED if form.stream else UNREADABLE),
        "to the end of the connection, reset": case([READ, says(content=body[: size // 3]), 0.2, RESET], TRUNCATED if form.stream else UNREADABLE),
        "a body that says it is too long": case([READ, says(b"content-length: 9999999999", content=b""), for_ever(b" " * 65536)], TOO_LARGE, limits={"attempt_s": 60}, heavy=True),
        "an endless body": case([READ, says(content=b""), for_ever(b" " * 65536)], TOO_LARGE, limits={"attempt_s": 60}, heavy=True),
        "an endless body after a good answer": case([READ, head_of(body), for_ever(b" " * 65536)], {GOOD, UNREADABLE}),
    }  # fmt: skip


def chunks(form: Form) -> dict[str, Case]:
    """A body in chunks."""
    body, size = form.body, b"%x" % len(form.body)

    def sent(*parts: bytes) -> bytes:
        return CHUNKS + b"".join(parts)

    return {
        "one chunk": case(chunked(body) + END_OF_CHUNKS, GOOD),
        "chunks of a byte": case(chunked(*[bytes([byte]) for byte in body]) + END_OF_CHUNKS, GOOD),
        "chunks of a byte, a packet each": case([READ, CHUNKS, *[b"1\r\n%c\r\n" % byte for byte in body], END_OF_CHUNKS, CLOSE], GOOD),
        "capital letters and zeros": case(sent(b"0000", size.upper(), b"\r\n", body, b"\r\n0\r\n\r\n"), GOOD),
        "an extension": case(sent(size, b";a=b\r\n", body, b"\r\n0;c\r\n\r\n"), GOOD),
        "a quoted extension": case(sent(size, b';a="b;c"\r\n', body, b"\r\n0\r\n\r\n"), GOOD),
        "an extension of 100 KB": case(sent(size, b";", b"a" * 100_000, b"\r\n", body, b"\r\n0\r\n\r\n"), {UNREADABLE, GOOD}),
        "an endless extension": case([READ, CHUNKS + b"2;", for_ever(b"a" * 65536)], LATE, limits=IDLE),
        "trailers": case(chunked(body) + b"0\r\nx: y\r\nz: 1\r\n\r\n", GOOD),
        "trailers that are none": case(chunked(body) + b"0\r\ngarbage\x00\r\n\r\n", {GOOD, UNREADABLE}),
        "trailers that would change the length": case(chunked(body) + b"0\r\ncontent-length: 3\r\n\r\n", {GOOD, UNREADABLE}),
        "endless trailers": case([READ, chunked(body) + b"0\r\n", for_ever(b"x: y\r\n" * 9000)], {UNREADABLE, form.whole}),
        "a chunk that breaks off": case(chunked(body)[: -len(body) // 2], TRUNCATED),
        "chunks without an end": case(chunked(body), form.whole),
        "chunks without an end, reset": case([READ, chunked(body), 0.2, RESET], form.whole),
        "an end without its last line": case(chunked(body) + b"0\r\n", {form.whole, GOOD}),
        "an empty body": case(sent(END_OF_CHUNKS), TRUNCATED if form.stream else UNREADABLE),
        "a bad size in a later packet": case([READ, CHUNKS + b"5\r\nhello\r\n", 1.0, b"zz\r\n", CLOSE], TRUNCATED, limits={"idle_s": 6}),
        "a size that is a word": case(sent(b"zz\r\n", body), UNREADABLE),
        "no size": case(sent(b"\r\n", body), UNREADABLE),
        "a negative size": case(sent(b"-5\r\n", body), UNREADABLE),
        "a size with a plus": case(sent(b"+5\r\n", body), UNREADABLE),
        "a size with 0x": case(sent(b"0x", size, b"\r\n", body, b"\r\n0\r\n\r\n"), UNREADABLE),
        "a size after a space": case(sent(b" ", size, b"\r\n", body, b"\r\n0\r\n\r\n"), UNREADABLE),
        "a size of 2^80": case(sent(b"f" * 20, b"\r\n", body), UNREADABLE),
        "a size of 2^60": case(sent(b"1", b"0" * 15, b"\r\n", body), form.whole),
        "a size one too small": case(sent(b"%x" % (len(body) - 1), b"\r\n", body, b"\r\n0\r\n\r\n"), UNREADABLE),
        "a size one too large": case(sent(b"%x" % (len(body) + 1), b"\r\n", body, b"\r\n0\r\n\r\n"), {GOOD, UNREADABLE}),
        "no line end after a chunk": case(sent(size, b"\r\n", body, b"0\r\n\r\n"), UNREADABLE),
        "line feeds alone in chunks": case(sent(size, b"\n", body, b"\n0\n\n"), {UNREADABLE, GOOD}),
        "chunks within chunks": case(lines(b"transfer-encoding: chunked, chunked") + chunked(body)[len(CHUNKS) :] + END_OF_CHUNKS, {GOOD, UNREADABLE}),
        "packed on the way, in chunks": case(lines(b"transfer-encoding: gzip, chunked") + chunked(gzip.compress(body))[len(CHUNKS) :] + END_OF_CHUNKS, TRUNCATED if form.stream else UNREADABLE),
        "a transfer encoding that nobody knows": case(lines(b"transfer-encoding: cow") + body, {GOOD, UNREADABLE}),
        "endless chunks": case([READ, CHUNKS, for_ever(MIB)], TOO_LARGE, limits={"attempt_s": 60}, heavy=True),
        "endless chunks of a byte": case([READ, CHUNKS, for_ever(LINE_END * 10_000)], LATE, limits={"attempt_s": 0.5}, heavy=True),
        "an endless event in chunks of a byte": case([READ, CHUNKS, for_ever(SPACE * 10_000)], TOO_LARGE if form.stream else LATE, limits={"attempt_s": 60 if form.stream else 0.5}, heavy=True),
    }  # fmt: skip


def encodings(form: Form) -> dict[str, Case]:
    """A body that is packed, or says so."""
    body = form.body
    bare = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    deflated = bare.compress(body) + bare.flush()
    zipped = gzip.compress(body)
    long = gzip.compress(body + bytes(range(32, 127)) * 3)

    def packed(content: bytes, encoding: str) -> bytes:
        return http(content, content_encoding=encoding)

    def in_chunks(content: bytes, encoding: bytes) -> bytes:
        return (
            chunked(content).replace(b"\r\n\r\n", b"\r\ncontent-encoding: " + encoding + b"\r\n\r\n", 1) + END_OF_CHUNKS
        )

    return {
        "gzip": case(packed(zipped, "gzip"), GOOD),
        "gzip in chunks": case(in_chunks(zipped, b"gzip"), GOOD),
        "gzip, a packet each byte": case([READ, lines(b"content-encoding: gzip"), *[bytes([byte]) for byte in zipped], CLOSE], GOOD),
        "GZIP in capital letters": case(packed(zipped, " GZIP "), GOOD),
        "gzip of two members": case(packed(gzip.compress(body[:50]) + gzip.compress(body[50:]), "x-gzip"), GOOD),
        "gzip of 300 members": case(packed(b"".join(gzip.compress(body[at : at + 1]) for at in range(len(body))), "gzip"), GOOD),
        "zlib, which is deflate": case(packed(zlib.compress(body), "deflate"), GOOD),
        "bare deflate": case(packed(deflated, "deflate"), GOOD),
        "identity": case(packed(body, "identity"), GOOD),
        "an empty name": case(packed(body, ""), GOOD),
        "gzip without its last byte": case(packed(zipped[:-1], "gzip"), TRUNCATED),
        "half a gzip": case(packed(long[: len(long) // 2], "gzip"), TRUNCATED),
        "the head of a gzip": case(packed(zipped[:10], "gzip"), TRUNCATED),
        "nothing, in gzip": case(packed(b"", "gzip"), TRUNCATED),
        "half a deflate": case(packed(zlib.compress(body)[: len(zipped) // 2], "deflate"), TRUNCATED),
        "gzip with a wrong checksum": case(packed(zipped[:-8] + b"12345678", "gzip"), UNREADABLE),
        "gzip with a wrong length": case(packed(zipped[:-4] + b"1234", "gzip"), UNREADABLE),
        "gzip with something after it": case(packed(zipped + b"more of it", "gzip"), UNREADABLE),
        "gzip with a bit flipped": case(packed(zipped[:20] + bytes([zipped[20] ^ 255]) + zipped[21:], "gzip"), UNREADABLE),
        "not gzip": case(packed(body, "gzip"), UNREADABLE),
        "not deflate": case(packed(body, "deflate"), UNREADABLE),
        "gzip that says nothing": case(packed(zipped, "identity"), TRUNCATED if form.stream else UNREADABLE),
        "gzip in gzip": case(packed(gzip.compress(zipped), "gzip"), TRUNCATED if form.stream else UNREADABLE),
        "gzip, gzip": case(packed(gzip.compress(zipped), "gzip, gzip"), UNREADABLE),
        "two encodings": case(head_of(zipped, b"content-encoding: gzip", b"content-encoding: br"), UNREADABLE),
        "brotli": case(packed(body, "br"), UNREADABLE),
        "zstandard": case(packed(b"\x28\xb5\x2f\xfd" + body, "zstd"), UNREADABLE),
        "compress": case(packed(b"\x1f\x9d" + body, "compress"), UNREADABLE),
        "an encoding that nobody knows": case(packed(body, "\x7f" * 200), UNREADABLE),
        "a dictionary wanted": case(packed(_with_dictionary(body), "deflate"), UNREADABLE),
        "a gzip bomb": case(packed(gzip.compress(b" " * (MOST_BODY_BYTES + 1), 1), "gzip"), TOO_LARGE, limits={"attempt_s": 60}, heavy=True),
        "a deflate bomb": case(packed(zlib.compress(b" " * (MOST_BODY_BYTES + 1), 1), "deflate"), TOO_LARGE, limits={"attempt_s": 60}, heavy=True),
        "a bomb of many members": case(packed(gzip.compress(b" " * 400_000, 1) * 100, "gzip"), TOO_LARGE, limits={"attempt_s": 60}, heavy=True),
    }  # fmt: skip


def _with_dictionary(body: bytes) -> bytes:
    packer = zlib.compressobj(zdict=b'{"choices": []}')
    return packer.compress(body) + packer.flush()


def order(form: Form) -> dict[str, Case]:
    """What comes when: before the request, instead of an answer, after it, and where the connection breaks."""
    whole = http(form.body)
    half = whole[: -len(form.body) // 2]
    return {
        "100 Continue three times": case(b"HTTP/1.1 100 Continue\r\n\r\n" * 3 + whole, GOOD),
        "102 Processing": case(b"HTTP/1.1 102 Processing\r\n\r\n" + whole, GOOD),
        "103 Early Hints": case(b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" + whole, GOOD),
        "199, whatever that is": case(b"HTTP/1.1 199 X\r\n\r\n" + whole, GOOD),
        "100 Continue and no more": case(b"HTTP/1.1 100 Continue\r\n\r\n", BROKEN),
        "101 Switching Protocols": case(lines(b"connection: upgrade", b"upgrade: x", status=b"HTTP/1.1 101 X") + b"\x00" * 9, INVALID),
        "201": case(http(form.body, 201), GOOD),
        "206": case(http(form.body, 206), GOOD),
        "204": case(lines(status=b"HTTP/1.1 204 X"), TRUNCATED if form.stream else UNREADABLE),
        "205 with a body": case(http(form.body, 205), GOOD),
        "closed before the request": case([CLOSE], {BROKEN, NOT_SENT}),
        "reset before the request": case([RESET], {BROKEN, NOT_SENT}),
        "closed in the middle of the request": case([_read_a_little, CLOSE], BROKEN),
        "reset in the middle of the request": case([_read_a_little, RESET], BROKEN),
        "closed after the request": case([READ, CLOSE], BROKEN),
        "reset after the request": case([READ, RESET], BROKEN),
        "closed in the status line": case([READ, OK[:5], CLOSE], BROKEN),
        "closed in the headers": case([READ, OK + b"x: ", CLOSE], BROKEN),
        "reset in the headers": case([READ, OK + b"x: ", 0.2, RESET], BROKEN),
        "closed after the headers": case([READ, whole[: -len(form.body)], CLOSE], TRUNCATED),
        "reset after the headers": case([READ, whole[: -len(form.body)], 0.2, RESET], TRUNCATED),
        "closed in the body": case([READ, half, CLOSE], TRUNCATED),
        "reset in the body": case([READ, half, 0.2, RESET], TRUNCATED),
        "reset after the answer": case([READ, whole, 0.2, RESET], GOOD),
        "half closed, then an answer": case([READ, _half_close_soon, whole, CLOSE], BROKEN),
        "a second answer at once": case([READ, whole + EVIL, READ, whole, CLOSE], GOOD),
        "a second answer later": case([READ, whole, 0.05, EVIL, READ, whole, CLOSE], GOOD),
        "garbage after the answer": case(whole + b"\x00garbage", {GOOD, UNREADABLE}),
        "line ends after the answer": case(whole + b"\r\n\r\n", GOOD),
        "an answer before the request": case([whole, READ, CLOSE], {GOOD, UNREADABLE, BROKEN}),
        "an answer a byte a packet": case([READ, *[bytes([byte]) for byte in whole], CLOSE], GOOD),
    }  # fmt: skip


def _read_a_little(connection: socket.socket) -> None:
    connection.recv(10)


def _half_close_soon(connection: socket.socket) -> None:
    connection.shutdown(socket.SHUT_WR)


def refusals(form: Form) -> dict[str, Case]:
    """No success; whatever is wrong with the body, the status keeps its meaning."""
    forever = lines(b"transfer-encoding: chunked", status=b"HTTP/1.1 400 X")
    event = b'data: {"error": {"message": "no"}}\n\n'
    return {
        "429 in broken gzip": case(http(b"", 429, content_encoding="gzip"), LIMITED),
        "429 in brotli": case(http(b"\x8b", 429, content_encoding="br"), LIMITED),
        "429 in a gzip bomb": case(http(gzip.compress(b" " * (1 << 20)), 429, content_encoding="gzip"), LIMITED),
        "429 that breaks off": case(http("{", 429, length=99), LIMITED),
        "429 whose body never comes": case([READ, http("", 429, length=99), 2], LIMITED, limits=IDLE),
        "429 that drips": case([READ, http("", 429, length=999), for_ever(b" ", 0.02)], LIMITED, limits={"attempt_s": WAIT_S}),
        "503 in broken chunks": case(b"HTTP/1.1 503 X\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", {OVERLOADED, UNREADABLE}),
        "401 that is reset": case([READ, http("{", 401, length=99), 0.2, RESET], KEY),
        "400 without an end": case([READ, forever, for_ever(MIB)], REFUSED),
        "500 with a good answer": case(http(form.body, 500), SERVER_ERROR),
        "400 with a good answer": case(http(form.body, 400), REFUSED),
        "429 in an event": case(http(event, 429, content_type="text/event-stream"), LIMITED),
        "500 with [DONE]": case(http(b"data: [DONE]\n\n", 500), SERVER_ERROR),
        "413 before the body was read": case([http({}, 413), 0.05, READ, CLOSE], REFUSED),
        "413 and a close at once": case([http({}, 413), CLOSE], {REFUSED, BROKEN}),
        "a redirect without a place": case(http("", 302), LOST),
        "a redirect to itself": case(http("", 307, location="/v1/chat/completions"), LOST),
        "a redirect to a script": case(http("", 302, location="javascript:alert(1)"), LOST),
        "a redirect to a file": case(http("", 301, location="file:///etc/passwd"), LOST),
        "a redirect of 7 KB": case(http("", 308, location="http://127.0.0.1:1/" + "x" * 7000), LOST),
        "a redirect with a NUL": case(http("", 308, location="http://127.0.0.1:1/\x00"), UNREADABLE),
        "a redirect with a good answer": case(http(form.body, 303, location="http://127.0.0.1:1/"), LOST),
        **{f"a redirect of {status}": case(http("", status, location="http://127.0.0.1:1/?key=fw_S3ntinel"), LOST)
           for status in (300, 301, 302, 303, 304, 305, 306, 307, 308)},
    }  # fmt: skip


def times(form: Form) -> dict[str, Case]:
    """Slow and silent peers; each wait has an end of its own."""
    body = form.body
    parts = [body[at : at + 1 + len(body) // 6] for at in range(0, len(body), 1 + len(body) // 6)]
    slow = [step for part in parts for step in (0.06, part)]
    attempt = {"attempt_s": WAIT_S}
    return {
        "silent": case([READ, 2], LATE, limits=FIRST),
        "silent without reading": case([2], LATE, limits=FIRST),
        "half a status line": case([READ, OK[:9], 2], LATE, limits=FIRST),
        "half the headers": case([READ, OK + b"x: y\r\n", 2], LATE, limits=FIRST),
        "a drip of a status line": case([READ, b"HTTP/1.1 200 ", for_ever(b"x", 0.02)], LATE, limits=FIRST),
        "a drip of headers": case([READ, OK, for_ever(b"x: y\r\n", 0.02)], LATE, limits=FIRST),
        "a drip of a header": case([READ, OK + b"x: ", for_ever(b"y", 0.02)], LATE, limits=FIRST),
        "a drip of 100 Continue": case([READ, for_ever(b"HTTP/1.1 100 Continue\r\n\r\n", 0.01)], LATE, limits=FIRST),
        "a drip of empty lines": case([READ, for_ever(b"\r\n", 0.02)], LATE, limits=FIRST),
        "100 Continue and silence": case([READ, b"HTTP/1.1 100 Continue\r\n\r\n", 2], LATE, limits=FIRST),
        "headers and silence": case([READ, CHUNKS, 2], LATE, limits=IDLE),
        "half a chunk size and silence": case([READ, CHUNKS + b"10", 2], LATE, limits=IDLE),
        "half a body and silence": case([READ, lines() + body[: len(body) // 3], 2], LATE, limits=IDLE),
        "a body without its end and silence": case([READ, chunked(body), 2], GOOD if form.stream else LATE, limits=IDLE),
        "a body without its close": case([READ, lines() + body, 2], GOOD if form.stream else LATE, limits=IDLE),
        "a drip that moves": case([READ, lines(), *slow, CLOSE], GOOD, limits=IDLE),
        "an endless drip": case([READ, CHUNKS, for_ever(SPACE, 0.02)], LATE, limits=attempt),
        "an endless drip of chunk extensions": case([READ, CHUNKS + b"1;", for_ever(b"a", 0.02)], LATE, limits=attempt),
        "an endless drip of trailers": case([READ, chunked(body) + b"0\r\n", for_ever(b"x: y\r\n", 0.02)], GOOD if form.stream else LATE, limits=attempt),
        "an endless drip of gzip": case([READ, lines(b"content-encoding: gzip") + gzip.compress(body)[:10], for_ever(b"\x00\x00\x00\xff\xff", 0.02)], LATE, limits=attempt),
    }  # fmt: skip


def behaviours(form: Form) -> dict[str, Case]:
    """All of them, by chapter and name."""
    chapters: list[Callable[[Form], dict[str, Case]]] = [
        *(status_lines, headers, lengths, chunks, encodings, order, refusals, times),
    ]
    return {f"{chapter.__name__}: {name}": one for chapter in chapters for name, one in chapter(form).items()}
