"""The one rule of opening media: FFmpeg gets the bytes at hand, and opens nothing itself.

It reads through a Python object, so it has no protocol that could reach a file or an address. Only
formats that hold their own sound are looked for, and whatever a file asks for beyond its own bytes
is refused. The one exception is a folder of HLS segments that its owner has named as such
(`HlsFolder`).
"""

import contextlib
import errno
import functools
import io
import itertools
import os
import posixpath
import re
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from av.container import InputContainer

_T = TypeVar("_T")

SAMPLE_RATE = 16_000  # Hz; of what is decoded, as the engines take it
SAMPLE_BYTES = 2  # signed 16-bit little-endian
MIN_SAMPLE_RATE = 8_000  # Hz; the telephone's
MAX_SAMPLE_RATE = 384_000  # Hz; the highest that converters offer

# Demuxers that read their input and nothing else. Playlists and descriptions (hls, dash, concat,
# sdp, vobsub, image sequences) name further files and addresses, so they are not among them.
DEMUXERS = (
    "aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,asf_o,au,avi,caf,dsf,dts,dtshd,dv,eac3,flac,flv,live_flv,"
    "gsm,ircam,kux,latm,loas,matroska,webm,mlp,mov,mp4,m4a,3gp,3g2,mj2,mp3,mpc,mpc8,mpeg,mpegts,"
    "mxf,nistsphere,nsv,nut,ogg,oma,qcp,rm,sbc,sln,sox,spdif,tak,truehd,tta,voc,w64,wav,wtv,wv,xwma"
)
_NO_SOUND = {"avif", "heic", "heif", "mks"}  # pictures and subtitles
_BUFFER_BYTES = 1 << 16  # of one read; larger ones make seeking slower
_AVIO_FLAG_WRITE = 2
_PLAYLIST = b"#EXTM3U"
_ENCRYPTED = re.compile(rb"#EXT-X-(?:SESSION-)?KEY:(?!.*METHOD=NONE)")
_SEGMENT_LENGTH = re.compile(rb"#EXTINF:\s*(\d+(?:\.\d+)?)")
_MAX_PLAYLIST_BYTES = 16 << 20
_LONGEST_URL = 200  # characters of it in a message


class Readable(Protocol):
    """What FFmpeg reads from; it seeks too where there are `seek` and `tell`."""

    def read(self, n: int, /) -> bytes:
        """At most `n` bytes; empty at the end."""
        ...


class MediaRefusedError(Exception):
    """The file is none that may be read, or refers to such a one; a sentence for people."""


class MediaStoppedError(Exception):
    """Whoever wanted the media has stopped reading it."""


class Watch:
    """How a read of media goes, for who waits for it: when it last moved, and how to stop it.

    Bytes count as moving unless they are all zero: a sparse file may have as many as it likes.
    """

    def __init__(self, name: str = "the media file") -> None:
        self.name = name
        self._moved_at = time.monotonic()
        self._stopped = False

    @property
    def idle_s(self) -> float:
        """How long nothing has moved, seconds."""
        return time.monotonic() - self._moved_at

    @property
    def stopped(self) -> bool:
        """Whether nobody wants the media any more."""
        return self._stopped

    def moved(self) -> None:
        """Tells that something has."""
        self._moved_at = time.monotonic()

    def stop(self) -> None:
        """Makes the next read fail; one that the system holds up is not reached."""
        self._stopped = True

    def check(self) -> None:
        """Raises MediaStoppedError after `stop`."""
        if self._stopped:
            raise MediaStoppedError


class MediaFile:
    """A regular file as FFmpeg sees it: as long as it was when it was opened.

    Raises OSError where it cannot be opened or read, MediaRefusedError for a pipe, a device or a
    folder, which might never end or never begin; and for a link on the way where `links` are not
    followed.
    """

    def __init__(
        self, path: Path, watch: Watch | None = None, *, name: str = "", links: bool = True
    ) -> None:
        self.name = name or path.name  # FFmpeg knows some formats by it
        self._watch = watch or Watch(self.name)
        # without O_NONBLOCK a pipe that has taken the file's place would hold up the opening
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(path, flags) if links else _opened_without_links(path, flags)
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            os.close(descriptor)
            raise MediaRefusedError(f"{path.name} is no regular file; name a media file")
        self.size = status.st_size
        self.identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        """Equal for files with the same content."""
        self._file = os.fdopen(descriptor, "rb", buffering=0)

    def read(self, n: int = -1) -> bytes:
        """At most `n` bytes, of those that were there at the opening."""
        self._watch.check()
        left = max(0, self.size - self._file.tell())
        data = self._file.read(left if n < 0 else min(n, left)) or b""
        if data.strip(b"\0"):
            self._watch.moved()
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves to an offset; the new one."""
        self._watch.check()
        if whence == os.SEEK_END:
            offset, whence = self.size + offset, os.SEEK_SET
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """The offset."""
        return self._file.tell()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


class _Guarded:
    """A file for FFmpeg whose first failure is its last.

    FFmpeg tries again, and PyAV (18.1) prints the traceback of an exception that comes before it
    has raised the one before.
    """

    def __init__(self, file: Any) -> None:
        self.name: str = getattr(file, "name", "")
        self._file = file
        self._failed = False

    def seekable(self) -> bool:
        return hasattr(self._file, "seek")

    def read(self, n: int = -1) -> bytes:
        return self._once(self._file.read, b"", n)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._once(self._file.seek, 0, offset, whence)

    def tell(self) -> int:
        return self._once(self._file.tell, 0)

    def close(self) -> None:
        self._file.close()

    def _once(self, call: Callable[..., _T], failed: _T, *arguments: int) -> _T:
        if self._failed:
            return failed
        try:
            return call(*arguments)
        except BaseException:
            self._failed = True
            raise


class FilePart:
    """A part of a file, as a file of its own."""

    def __init__(self, file: MediaFile, begin: int, end: int) -> None:
        self.name = file.name
        self._file = file
        self._begin = begin
        self._size = end - begin
        self._at = 0

    def read(self, n: int = -1) -> bytes:
        """At most `n` bytes."""
        left = max(0, self._size - self._at)
        self._file.seek(self._begin + self._at)
        data = self._file.read(left if n < 0 else min(n, left))
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves to an offset; the new one."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        """The offset."""
        return self._at


def _opened_without_links(path: Path, flags: int) -> int:
    """The descriptor of a file whose absolute path has no link, one folder after the other.

    A path that was looked at and is opened later may lead elsewhere by then. Raises
    MediaRefusedError, OSError.
    """
    through = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    at = os.open(path.anchor, through)
    try:
        for part in path.parts[1:-1]:
            below = os.open(part, through, dir_fd=at)
            os.close(at)
            at = below
        return os.open(path.name, flags | os.O_NOFOLLOW, dir_fd=at)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENOTDIR, errno.EMLINK}:
            raise MediaRefusedError(
                f"{path.name} has become a link, or lies behind one; put the file itself in place"
            ) from error
        raise
    finally:
        os.close(at)


class HlsFolder:
    """What an HLS playlist may open: regular files in its folder and below, links resolved.

    FFmpeg sees the folder as the root of a file system of its own, so that no name leads out of
    it. Raises MediaRefusedError for all else, and for a playlist without an end, which FFmpeg would
    read again and again. A file that is not there is noted in `missing`, and read as empty.
    """

    def __init__(self, playlist: Path, watch: Watch) -> None:
        real = playlist.resolve(strict=True)
        self.name = f"/{real.name}"
        self._root = real.parent
        self._watch = watch
        self._playlists: set[str] = set()
        self.missing: list[str] = []
        """Names of files that are not there, or are no files."""
        self.refused: MediaRefusedError | None = None
        """Why a file was not opened."""
        self._segments: list[tuple[str, float]] = []  # names and lengths, seconds
        self.steps = False
        """Whether a playlist says that the clock of its files steps."""

    def open(self, url: str, flags: int = 0, _options: object = None) -> "_Guarded | io.BytesIO":
        """The file of a name that FFmpeg has made of the playlist's own."""
        if self.refused is not None:
            # FFmpeg tries the next one and the next; a second exception before PyAV (18.1) has
            # raised the first would be printed with its traceback
            return io.BytesIO()
        try:
            return _Guarded(self._open(url, flags))
        except FileNotFoundError:
            self.missing.append(url.lstrip("/")[:_LONGEST_URL])
            return io.BytesIO()
        except MediaRefusedError as error:
            self.refused = error
            raise

    def playlist(self) -> MediaFile:
        """The playlist itself. Raises MediaRefusedError."""
        return self._open(self.name)

    def _open(self, url: str, flags: int = 0) -> MediaFile:
        refused = MediaRefusedError(
            f"the playlist refers to {url[:_LONGEST_URL]!r}, which is no file in its folder or"
            " below; only those are read"
        )
        if not url.startswith("/") or flags & _AVIO_FLAG_WRITE:
            raise refused
        try:
            path = (self._root / url.lstrip("/")).resolve()
            if not path.is_relative_to(self._root):
                raise refused
            file = MediaFile(path, self._watch, name=url)
        except FileNotFoundError:
            raise
        except (OSError, RuntimeError, ValueError, MediaRefusedError) as error:
            raise refused from error
        if file.read(len(_PLAYLIST)) == _PLAYLIST:
            self._check(file)
        file.seek(0)
        return file

    def _check(self, playlist: MediaFile) -> None:
        lines = [line.strip() for line in playlist.read(_MAX_PLAYLIST_BYTES).splitlines()]
        ends = b"#EXT-X-ENDLIST" in lines or any(
            line.startswith(b"#EXT-X-STREAM-INF") for line in lines
        )
        if not ends or playlist.name in self._playlists:  # one that ended is read once
            playlist.close()
            raise MediaRefusedError(
                f"{playlist.name.lstrip('/')} is a live playlist: it has no #EXT-X-ENDLIST; record"
                " it to its end first"
            )
        self._playlists.add(playlist.name)
        if any(_ENCRYPTED.match(line) for line in lines):
            playlist.close()
            raise MediaRefusedError(
                f"{playlist.name.lstrip('/')} is a playlist of encrypted files; take a copy without"
                " copy protection"
            )
        self.steps = self.steps or b"#EXT-X-DISCONTINUITY" in lines
        length_s = 0.0
        for line in lines:
            if told := _SEGMENT_LENGTH.match(line):
                length_s = float(told[1])
            elif line and not line.startswith(b"#"):
                folder, name = posixpath.dirname(playlist.name), line.decode(errors="replace")
                name = posixpath.normpath(posixpath.join(folder, name)).lstrip("/")
                self._segments.append((name, length_s))
                length_s = 0.0

    @property
    def missing_before_s(self) -> float:
        """How much of the start is in files that are not there, seconds."""
        lost = itertools.takewhile(lambda one: one[0] in self.missing, self._segments)
        return sum(length_s for _, length_s in lost)


def open_container(
    file: Readable, hls: HlsFolder | None = None, timeout_s: float | None = None
) -> "InputContainer":
    """The media that the bytes of `file` are; `hls` where they are a playlist of a named folder.

    The file stays the caller's to close. `timeout_s` bounds what FFmpeg waits for by itself.
    Raises FFmpegError, MediaRefusedError, and whatever the file raises.
    """
    import av  # noqa: PLC0415 - FFmpeg's libraries load only where media is opened

    options = {"format_whitelist": DEMUXERS, "protocol_whitelist": "none"}
    if hls is not None:
        options["format_whitelist"] += ",hls,webvtt"
    return av.open(
        _Guarded(file),
        "r",
        format="hls" if hls is not None else None,
        options=options,
        metadata_errors="replace",
        buffer_size=_BUFFER_BYTES,
        timeout=timeout_s,
        io_open=hls.open if hls is not None else _refuse,
    )


@functools.cache
def media_suffixes() -> frozenset[str]:
    """What names of files of these formats end in, without the point, as FFmpeg knows them."""
    from av.format import ContainerFormat  # noqa: PLC0415 - as above

    found: set[str] = set()
    for name, mode in itertools.product(DEMUXERS.split(","), ("r", "w")):
        with contextlib.suppress(ValueError):
            found |= ContainerFormat(name, mode).extensions
    return frozenset(found - _NO_SOUND)


def _refuse(url: str, *_: Any) -> None:
    raise MediaRefusedError(
        f"the media file refers to {url[:_LONGEST_URL]!r}; only a file that holds its own sound is"
        " read"
    )


def bad_sample_rate(rate_hz: int) -> str | None:
    """What is wrong with the rate of a file's audio, as a sentence without its subject, or None."""
    if MIN_SAMPLE_RATE <= rate_hz <= MAX_SAMPLE_RATE:
        return None
    return (
        f"has {rate_hz} samples of audio a second; {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE} are"
        " taken, so convert it: ffmpeg -i IN -ar 16000 OUT.wav"
    )
