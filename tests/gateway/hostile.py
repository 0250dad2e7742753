# ruff: noqa: E501 - tables of requests are read by their lines
"""Requests that no honest client sends, made from a seed."""

import gzip
import io
import json
import random
import string
import wave
from collections.abc import Callable, Sequence

Request = tuple[bytes, bool]
"""The bytes, and whether they may be fewer than they say."""

_GETS = ("/health", "/status", "/v1/models", "/languages", "/frontend/settings", "/detect")
_FORMS = ("/v1/audio/transcriptions", "/v1/audio/translations", "/asr", "/detect-language")
_TEXTS = ("/translate", "/detect", "/api/translate/content")
_PATHS = (
    "/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/v1/models/..%2f..%2fetc", "/%00", "//",
    "/v1/models/%00", "/v1/models/%ff%fe", "/v1/models/\x80", "http://other.example/health", "*",
    "/v1/../v1/models", "/.//./health", "/v1/models/" + "a" * 7000, "/" + "a" * 20_000, "\\..\\..",
    "/asr?output=%00", "/asr?language=%ff%fe", "/translate?q=%ff&source=hi&target=en",
    "/translate?q=a&source=%ed%a0%80&target=en", "/asr?output[]=srt&output=&=", "/?" + "a=b&" * 900,
    "/%c0%ae%c0%ae/", "/v1/models/%E2%80%AE", "/asr;x=y", "/health?%", "/#x", "/health\t", "",
)  # fmt: skip
_LINES = (
    b"BREW /health HTTP/1.1", b"get /health HTTP/1.1", b"GET /health HTTP/9.9", b"GET /health",
    b"CONNECT other.example:443 HTTP/1.1", b"TRACE / HTTP/1.1", b"PRI * HTTP/2.0", b"OPTIONS *",
    b"GET  /health  HTTP/1.1", b"PUT /asr HTTP/1.1", b"DELETE /v1/models HTTP/1.1", b"\x16\x03\x01",
    b"HEAD /v1/models HTTP/1.1", b"PATCH /translate HTTP/1.0", b"\x00\x00\x00", b"GET /\x00 HTTP/1.1",
)  # fmt: skip
_HEADERS = (
    b"Content-Length: -1", b"Content-Length: " + b"9" * 40, b"Content-Length: 1e3",
    b"Content-Length: 5\r\nContent-Length: 6", b"Content-Length: 5\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: chunked, chunked", b"Expect: a lot",
    b"Upgrade: websocket\r\nConnection: Upgrade", b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings",
    b"x-request-id: " + b"a" * 5000, b"x-request-id: \xff\xfe\x01", b"Authorization: Bearer \xff",
    b"Cookie: " + b"a=b; " * 1500, b"X-Long: " + b"a" * 100_000, b"Bad Name: x", b": none", b"No colon",
    b"X-Nul: a\x00b", b"X-Fold: a\r\n b", b"Range: bytes=0-,0-,0-", b"Host: a\r\nHost: b",
    b"\r\n".join(b"X-%d: y" % n for n in range(500)), b"Content-Encoding: x", b"Content-Encoding: br",
    b"If-Modified-Since: never", b"Accept: text/html", b"X-Api-Key: \x80", b"Content-Type: \xff/\xfe",
)  # fmt: skip
_TYPES = (
    "text/html", "multipart/form-data", "multipart/form-data; boundary=", "application/json",
    "multipart/form-data; boundary=" + "b" * 5000, "multipart/mixed; boundary=x", "/", ";", "a/b/c",
    "application/json; charset=utf-7", "application/json; charset=nobody", "application/json; charset=zlib",
    "application/x-www-form-urlencoded; charset=rot13", "application/x-www-form-urlencoded; charset=\x00",
    "application/x-www-form-urlencoded; charset=utf-16", 'multipart/form-data; boundary="a\nb"',
    "multipart/form-data; boundary=\xe9", "application/json; charset=idna", "image/png; charset=punycode",
)  # fmt: skip
_JSON = (
    b"[" * 10_000 + b"]" * 10_000, b'{"q":' * 10_000 + b"1" + b"}" * 10_000, b"", b"null", b"[]", b'"x"',
    b'{"q":"\\ud800","source":"hi","target":"en"}', b'{"q":["\\udfff"],"source":"hi","target":"en"}',
    b'{"q":' + b"9" * 6000 + b"}", b'{"q":NaN}', b'{"q":1e999}', b'{"q":"a","q":"b"}', b"{", b"\xff\xfe{}",
    b'{"q":"a","source":["hi"],"target":{"a":1}}', b'{"q":"a","source":"hi","target":"en","format":7}',
    b'{"q":[],"source":"hi","target":"en"}', b'{"q":[[]],"source":"hi","target":"en"}',
    b'{"lines":[{"position":1e400,"line":"a"}],"sourceLanguage":"hi","targetLanguage":"en"}',
    b'{"lines":[{"position":true,"line":null}]}', b'{"lines":{}}', b'{"lines":[],"targetLanguage":"en"}',
    b'{"lines":[{"position":' + b"9" * 4000 + b',"line":"\xe0\xa4\x95"}],"sourceLanguage":"hi","targetLanguage":"en"}',
    b'{"q":"\x00","source":"hi","target":"en"}', b'{"q":"a","source":"hi","target":"\\ud800"}',
    b'{"api_key":' * 3000, b'{"q":"' + b"a" * 100_000 + b'","source":"auto","target":"en"}',
)  # fmt: skip
_VALUES = (
    "", "nan", "inf", "-1", "1e309", "\x00", "\ud83d".encode("utf-8", "surrogatepass").decode("latin-1"),
    "x" * 60_000, "x" * 70_000, "-" * 200, "en-" * 100, "zz-ZZ-zz-9-x-y", "\u202e\u0000", "%s%n", "{}", "[]",
    "hi-Latn-IN-u-nu-deva-x-" + "a" * 300, "\r\nX: y", "../../etc/passwd", "i-default", "art-lojban", "1",
)  # fmt: skip
_FIELDS = (
    "language", "temperature", "response_format", "timestamp_granularities[]", "model", "prompt",
    "stream", "to_language", "file[]", "", "\x00", "a" * 5000, "api_key", "include[]",
)  # fmt: skip


def requests(seed: int, n: int) -> list[Request]:
    """As many requests, each kind as often as the others."""
    rng = random.Random(seed)  # noqa: S311 - no secret
    return [_KINDS[index % len(_KINDS)](rng) for index in range(n)]


def _speech() -> bytes:
    """A second of silence as a wave file."""
    file = io.BytesIO()
    with wave.open(file, "wb") as media:
        media.setparams((1, 2, 16_000, 0, "NONE", ""))
        media.writeframes(bytes(32_000))
    return file.getvalue()


_WAVE = _speech()


def _post(path: str, body: bytes, *headers: bytes, length: int | None = None) -> bytes:
    told = len(body) if length is None else length
    lines = [f"POST {path} HTTP/1.1".encode("latin-1"), b"Host: x", b"Connection: close", *headers]
    return b"\r\n".join([*lines, f"Content-Length: {told}".encode(), b"", body])


def _form(path: str, parts: Sequence[bytes], *headers: bytes, end: bytes = b"--x--\r\n") -> bytes:
    body = b"".join(b"--x\r\n" + part + b"\r\n" for part in parts) + end
    return _post(path, body, b"Content-Type: multipart/form-data; boundary=x", *headers)


def _field(name: str, value: bytes, *headers: bytes) -> bytes:
    about = f'Content-Disposition: form-data; name="{name}"'.encode("utf-8", "replace")
    return b"\r\n".join([about, *headers, b"", value])


def _file(data: bytes = _WAVE, name: str = "file") -> bytes:
    about = f'Content-Disposition: form-data; name="{name}"; filename="a.wav"'
    return about.encode() + b"\r\n\r\n" + data


def _part_name(path: str) -> str:
    return "file" if path.startswith("/v1/") else "audio_file"


def _paths(rng: random.Random) -> Request:
    line = f"{rng.choice(['GET', 'POST'])} {rng.choice(_PATHS)} HTTP/1.1\r\n"
    return line.encode("latin-1") + b"Host: x\r\nConnection: close\r\n\r\n", False


def _lines(rng: random.Random) -> Request:
    return rng.choice(_LINES) + b"\r\nHost: x\r\nConnection: close\r\n\r\n", False


def _headers(rng: random.Random) -> Request:
    path = rng.choice((*_GETS, *_TEXTS))
    method = b"GET" if path in _GETS else b"POST"
    line = b"%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" % (method, path.encode())
    return line + rng.choice(_HEADERS) + b"\r\n\r\nhello", True


def _types(rng: random.Random) -> Request:
    kind = f"Content-Type: {rng.choice(_TYPES)}".encode("latin-1").replace(b"\n", b"\r\n ")
    body = rng.choice([b"", b"q=a", b"q=%ff%fe&target=en", b"--x\r\n\r\n", rng.choice(_JSON)])
    return _post(rng.choice((*_FORMS, *_TEXTS)), body, kind), False


def _json(rng: random.Random) -> Request:
    kind = b"Content-Type: application/json"
    return _post(rng.choice(_TEXTS), rng.choice(_JSON), kind), False


def _many_parts(rng: random.Random) -> Request:
    n, path = rng.randrange(200, 4000), rng.choice((*_FORMS, "/translate"))
    same = rng.random() < 0.5
    parts = [_field("a" if same else f"a{number}", b"b") for number in range(n)]
    return _form(path, parts), False


def _part_headers(rng: random.Random) -> Request:
    path = rng.choice((*_FORMS, "/translate"))
    one = rng.choice([
        b"X: " + b"y" * rng.randrange(9000, 2_000_000),
        b"\r\n".join(b"X-%d: y" % number for number in range(500)),
        b"Content-Length: -5", b"Content-Length: 99999999999", b"Content-Transfer-Encoding: base64",
        b"Content-Transfer-Encoding: x", b"Content-Encoding: gzip", b"no colon", b"\xff: \xfe",
        b"Content-Type: multipart/mixed; boundary=y", b"Content-Type: text/plain; charset=nobody",
    ])  # fmt: skip
    return _form(path, [_field(rng.choice(["q", _part_name(path)]), b"a" * 50, one)]), False


def _dispositions(rng: random.Random) -> Request:
    path = rng.choice((*_FORMS, "/translate"))
    about = rng.choice([
        b"Content-Disposition: ", b"Content-Disposition: form-data", b"X: y",
        b"Content-Disposition: attachment; filename=../../x", b'Content-Disposition: form-data; name="',
        b"Content-Disposition: form-data; name*=utf-8''%ff%fe; filename*=nobody''x",
        b'Content-Disposition: form-data; name="file"; filename="../../../etc/passwd\x00"',
        b'Content-Disposition: form-data; name="\xff\xfe"', b"Content-Disposition: form-data; name=file; name=x",
    ])  # fmt: skip
    return _form(path, [about + b"\r\n\r\n" + _WAVE[:500]]), False


def _boundaries(rng: random.Random) -> Request:
    path = rng.choice(_FORMS)
    end = rng.choice(
        [b"", b"--x", b"--x-", b"--" * 5000, b"--y--\r\n", b"\r\n--x" * 3000, b"\n" * 9000]
    )
    parts = [_file(name=_part_name(path))] * rng.randrange(3)
    if rng.random() < 0.2:
        body = b"a" * 500_000  # no boundary at all
        return _post(path, body, b"Content-Type: multipart/form-data; boundary=x"), False
    return _form(path, parts, end=end), False


def _chunked(rng: random.Random) -> Request:
    path = rng.choice((*_FORMS, *_TEXTS))
    body = rng.choice([
        b"zz\r\nhello\r\n0\r\n\r\n", b"-5\r\nhello\r\n", b"ffffffffffffffffff\r\nhello",
        b"5\r\nhelloworld\r\n", b"5\nhello\n0\n\n", b"5;" + b"a" * 20_000 + b"\r\nhello\r\n0\r\n\r\n",
        b"\r\n\r\n", b"5\r\nhello\r\n0\r\n" + b"X: y\r\n" * 5000 + b"\r\n", b"0x5\r\nhello\r\n", b"5",
        b"1\r\na\r\n" * 5000 + b"0\r\n\r\n", b"0\r\n\r\nGET /x HTTP/1.1\r\n\r\n",
    ])  # fmt: skip
    kind = rng.choice([b"application/json", b"multipart/form-data; boundary=x"])
    head = b"POST %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: %s\r\n"
    return head % (path.encode(), kind) + b"Transfer-Encoding: chunked\r\n\r\n" + body, True


def _options(rng: random.Random) -> Request:
    path = rng.choice(_FORMS)
    parts = [
        _field(rng.choice(_FIELDS), rng.choice(_VALUES).encode("utf-8", "replace"))
        for _ in range(rng.randrange(1, 5))
    ]
    parts.insert(rng.randrange(len(parts) + 1), _file(name=_part_name(path)))
    return _form(path, parts), False


def _encoded(rng: random.Random) -> Request:
    """A bomb: megabytes of blanks, in kilobytes."""
    small = gzip.compress(b" " * rng.choice([1000, 50_000_000]))
    path, kind = rng.choice([
        (rng.choice(_TEXTS), b"application/json"),
        (rng.choice(_TEXTS), b"application/x-www-form-urlencoded"),
        (rng.choice(_FORMS), b"multipart/form-data; boundary=x"),
    ])  # fmt: skip
    return _post(path, small, b"Content-Type: " + kind, b"Content-Encoding: gzip"), False


def _short(rng: random.Random) -> Request:
    """A request that stops in its middle."""
    path = rng.choice(_FORMS)
    whole = _form(path, [_field("language", b"hi"), _file(name=_part_name(path))])
    return whole[: rng.randrange(1, len(whole))], True


def _flipped(rng: random.Random) -> Request:
    """A right request with some bytes changed."""
    path = rng.choice(_FORMS)
    body = json.dumps({"q": "a", "source": "hi", "target": "en"}).encode()
    right = bytearray(
        rng.choice([
            _form(path, [_field("language", b"hi"), _file(name=_part_name(path))]),
            _post("/translate", body, b"Content-Type: application/json"),
        ])
    )  # fmt: skip
    for _ in range(rng.randrange(1, 6)):
        right[rng.randrange(min(len(right), 400))] = rng.randrange(256)
    return bytes(right), True


def _piped(rng: random.Random) -> Request:
    one = f"GET {rng.choice(_GETS)} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    return one * rng.randrange(2, 100) + b"GET /health HTTP/1.1\r\nConnection: close\r\n\r\n", False


def _noise(rng: random.Random) -> Request:
    letters = string.printable.encode() if rng.random() < 0.5 else bytes(range(256))
    return bytes(rng.choices(letters, k=rng.randrange(1, 3000))), True


_KINDS: tuple[Callable[[random.Random], Request], ...] = (
    _paths, _lines, _headers, _types, _json, _many_parts, _part_headers, _dispositions, _boundaries,
    _chunked, _options, _encoded, _short, _flipped, _piped, _noise,
)  # fmt: skip
