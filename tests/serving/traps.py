"""Media files that try to have another file read, and a witness that sees whether it was.

A trap is the bytes of a file and the suffix of its name. The files that must not be read, the
secrets, are real recordings: one of each kind in a folder of its own, and one beside the traps.
"""

import base64
import ctypes
import os
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pytest

from tests.serving.recordings import Media, media

KINDS = {
    "mp4": Media("mp4", "aac", seconds=2.0),
    "mkv": Media("matroska", "aac", seconds=2.0),
    "ts": Media("mpegts", "mp2", seconds=2.0),
    "wav": Media("wav", "pcm_s16le", seconds=2.0),
}
# from the media folder of a job's upload to the folder of the test, and from a media root
_UP = ("../../../../", "../")

_REFERENCES: dict[str, Callable[[Path], str]] = {
    "absolute": str,
    "beside": lambda path: path.name,
    "file": lambda path: f"file:{path}",
    "file-url": lambda path: f"file://{path}",
    "concat": lambda path: f"concat:{path}|{path}",
    "subfile": lambda path: f"subfile,,start,0,end,0,,:{path}",
    "crypto": lambda path: f"crypto:{path}",
    "cache": lambda path: f"cache:{path}",
    "up-from-upload": lambda path: f"{_UP[0]}{path.parent.name}/{path.name}",
    "up": lambda path: f"{_UP[1]}{path.parent.name}/{path.name}",
}

_IN_ACCESS, _IN_OPEN = 0x1, 0x20


@dataclass(frozen=True)
class Traps:
    """A folder with the secrets and the traps, and what watches over both."""

    folder: Path
    """Where the traps are, with a copy of each secret beside them."""
    secrets: tuple[Path, ...]
    listener: socket.socket
    """Where traps send an HTTP client."""

    @property
    def names(self) -> list[str]:
        """The file names of the traps."""
        beside = {path.name for path in self.secrets}
        return sorted(path.name for path in self.folder.iterdir() if path.name not in beside)

    def connected(self) -> bool:
        """Whether anybody has called the listener."""
        try:
            self.listener.accept()[0].close()
        except BlockingIOError:
            return False
        return True


def lay(folder: Path) -> Traps:
    """Makes `secret/` and `traps/` in the folder."""
    secrets: list[Path] = []
    for name in ("secret", "traps"):
        (folder / name).mkdir()
        for kind, spec in KINDS.items():
            path = folder / name / f"secret.{kind}"
            path.write_bytes(media(spec))
            secrets.append(path)
    frame = folder / "traps" / "frame-001.png"
    frame.write_bytes(b"\x89PNG\r\n\x1a\n")
    secrets.append(frame)
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    traps = Traps(folder / "traps", tuple(secrets), listener)
    port = listener.getsockname()[1]
    for name, data in {**_playlists(secrets[:4], port), **_others(secrets[:4])}.items():
        (traps.folder / name).write_bytes(data)
    return traps


@pytest.fixture(scope="module")
def laid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traps]:
    """The traps of a module's tests."""
    made = lay(tmp_path_factory.mktemp("traps"))
    yield made
    made.listener.close()


def playlist(*references: str, end: bool = True) -> bytes:
    """An HLS playlist of segments of two seconds."""
    lines = ["#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:2"]
    for reference in references:
        lines += ["#EXTINF:2.0,", reference]
    return "\n".join([*lines, *["#EXT-X-ENDLIST"] * end, ""]).encode()


def master(*references: str) -> bytes:
    """An HLS playlist of playlists."""
    lines = ["#EXTM3U"]
    for number, reference in enumerate(references):
        lines += [f"#EXT-X-STREAM-INF:BANDWIDTH={number + 1}00000", reference]
    return "\n".join([*lines, ""]).encode()


def _data_url(data: bytes) -> str:
    return "data:application/vnd.apple.mpegurl;base64," + base64.b64encode(data).decode()


def _playlists(secrets: list[Path], port: int) -> dict[str, bytes]:
    made: dict[str, bytes] = {}
    for path in secrets:
        kind = path.suffix[1:]
        for style, refer in _REFERENCES.items():
            made[f"{style}-{kind}.m3u8"] = playlist(refer(path))
        made[f"http-{kind}.m3u8"] = playlist(f"http://127.0.0.1:{port}/secret.{kind}")
        made[f"data-{kind}.m3u8"] = playlist(_data_url(playlist(str(path))))
    secret = secrets[2]
    made["live.m3u8"] = playlist(str(secret), end=False)
    made["nested.m3u8"] = playlist("absolute-ts.m3u8")
    made["master.m3u8"] = master("absolute-ts.m3u8", f"http://127.0.0.1:{port}/a.m3u8")
    made["master-data.m3u8"] = master(_data_url(playlist(str(secret))))
    made["key.m3u8"] = playlist("secret.ts").replace(
        b"#EXTINF", f'#EXT-X-KEY:METHOD=AES-128,URI="file://{secret}"\n#EXTINF'.encode(), 1
    )
    made["map.m3u8"] = playlist("secret.mp4").replace(
        b"#EXTINF", f'#EXT-X-MAP:URI="{secrets[0]}"\n#EXTINF'.encode(), 1
    )
    # what it is called is no reason to believe it
    made["playlist-called.mp4"] = made["file-url-ts.m3u8"]
    made["playlist-called.wav"] = made["absolute-ts.m3u8"]
    return made


def _others(secrets: list[Path]) -> dict[str, bytes]:
    made: dict[str, bytes] = {}
    for path in secrets:
        kind = path.suffix[1:]
        made[f"absolute-{kind}.ffconcat"] = f"ffconcat version 1.0\nfile '{path}'\n".encode()
        made[f"beside-{kind}.ffconcat"] = f"ffconcat version 1.0\nfile '{path.name}'\n".encode()
        made[f"dash-{kind}.mpd"] = _dash(f"file://{path}")
        made[f"dash-beside-{kind}.mpd"] = _dash(path.name)
    made["call.sdp"] = (
        b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n"
    )
    made["subtitles.idx"] = (
        b"# VobSub index file, v7 (do not modify this line!)\nid: en, index: 0\n"
    )
    made["frame-%03d.png"] = b"\x89PNG\r\n\x1a\n"  # a pattern, to whom opens images by name
    made["linked.mkv"] = _linked(secrets[1].name)
    mp4 = media(KINDS["mp4"])
    made["dref-url.mp4"] = _with_reference(
        mp4, _box(b"url ", bytes(4) + f"file://{secrets[0]}\0".encode())
    )
    made["dref-url-beside.mov"] = _with_reference(mp4, _box(b"url ", bytes(4) + b"secret.mp4\0"))
    made["dref-alias.mov"] = _with_reference(mp4, _alias(secrets[0]))
    return made


def _dash(url: str) -> bytes:
    return (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"'
        ' mediaPresentationDuration="PT2S"><Period><AdaptationSet contentType="audio">'
        f'<Representation id="0" bandwidth="1"><BaseURL>{url}</BaseURL>'
        "</Representation></AdaptationSet></Period></MPD>"
    ).encode()


def _box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body) + 8) + kind + body


def _with_reference(mp4: bytes, entry: bytes) -> bytes:
    """The mp4 with another data reference: its samples are said to be in another file."""
    inner = (b"moov", b"trak", b"mdia", b"minf", b"dinf")

    def rewritten(data: bytes) -> bytes:
        out, at = b"", 0
        while at < len(data):
            size, kind = struct.unpack(">I4s", data[at : at + 8])
            body = data[at + 8 : at + size]
            if kind in inner:
                body = rewritten(body)
            elif kind == b"dref":
                body = struct.pack(">II", 0, 1) + entry
            out += _box(kind, body)
            at += size
        return out

    return rewritten(mp4)


def _alias(path: Path) -> bytes:
    """A Macintosh alias record, as FFmpeg's mov_read_dref reads it."""
    name, whole = path.name.encode(), str(path).encode()
    whole += b"\0" * (len(whole) % 2)
    record = bytes(10) + bytes([0]) + bytes(27) + bytes(12)
    record += bytes([len(name)]) + name.ljust(63, b"\0") + bytes(16)
    record += struct.pack(">HH", 1, 1) + bytes(16)
    record += struct.pack(">HH", 2, len(whole)) + whole + struct.pack(">HH", 0xFFFF, 0)
    return _box(b"alis", bytes(4) + record)


def _element(identity: str, body: bytes) -> bytes:
    return bytes.fromhex(identity) + struct.pack(">Q", len(body) | 1 << 56) + body


def _linked(name: str) -> bytes:
    """A Matroska segment whose sound is in others: hard links by name, soft ones by chapters."""
    uid = bytes(range(16))
    info = (
        _element("73a4", uid) + _element("3eb923", uid) + _element("3e83bb", name.encode())
        + _element("3cb923", uid) + _element("3c83ab", name.encode())
        + _element("2ad7b1", struct.pack(">I", 1_000_000))
    )  # fmt: skip
    atom = _element("91", b"\0") + _element("92", b"\x7f\xff\xff\xff") + _element("6e67", uid)
    chapters = _element(
        "1043a770", _element("45b9", _element("45dd", b"\1") + _element("b6", atom))
    )
    head = _element("1a45dfa3", _element("4282", b"matroska"))
    return head + _element("18538067", _element("1549a966", info) + chapters)


class Witness:
    """Sees every opening and reading of files by whatever process, in C code too (inotify)."""

    def __init__(self, paths: tuple[Path, ...]) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        assert self._descriptor >= 0
        self._watched: dict[int, str] = {}
        for path in paths:
            watch = libc.inotify_add_watch(
                self._descriptor, os.fsencode(path), _IN_OPEN | _IN_ACCESS
            )
            assert watch >= 0, os.strerror(ctypes.get_errno())
            self._watched[watch] = str(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def opened(self) -> list[str]:
        """The files that were opened or read since the last look."""
        try:
            data = os.read(self._descriptor, 1 << 16)
        except BlockingIOError:
            return []
        found: set[str] = set()
        at = 0
        while at < len(data):
            watch, _, _, length = struct.unpack_from("iIII", data, at)
            found.add(self._watched.get(watch, "?"))
            at += 16 + length
        return sorted(found)


def wrongly_used(
    laid: Traps, use: Callable[[str], object], refusal: type[Exception]
) -> dict[str, str]:
    """What is accepted or opens another file, by name; a film with a reference may play."""
    wrong: dict[str, str] = {}
    with Witness(laid.secrets) as witness:
        for name in laid.names:
            try:
                use(name)
            except refusal:
                accepted = False
            else:
                accepted = not name.startswith("dref-")
            opened = witness.opened()
            if accepted or opened:
                wrong[name] = "accepted" if accepted else str(opened)
    return wrong
