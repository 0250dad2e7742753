"""Sound behind a URL that a person has typed; the only place of voxroute where FFmpeg opens one.

It may open that address and no other: the protocols are those of the URL's own scheme, and no
format is read that names further ones (playlists, descriptions). RTSP's sound comes through its
own connection.
"""

import contextlib
import re
from collections.abc import AsyncGenerator, Iterator
from urllib.parse import urlsplit

import av
import av.error
from av.container import InputContainer

from voxroute_orchestrator import reading
from voxroute_orchestrator.errors import MediaError, NoAudioError, UsageError
from voxroute_orchestrator.live.sources import PIECE_BYTES, Pace, ThreadSource
from voxroute_serving.audio.media import DEMUXERS, Watch
from voxroute_serving.audio.reader import Sound

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_PROTOCOLS = {
    "http": "http,tcp",
    "https": "https,tls,tcp",
    "rtsp": "tcp",
    "rtsps": "tls,tcp",
    "rtmp": "rtmp,tcp",
    "rtmps": "rtmps,tls,tcp",
    "srt": "srt",
    "tcp": "tcp",
    "udp": "udp",
}
"""By the scheme of a URL, what FFmpeg needs for it."""
_OPEN_S, _READ_S = 15.0, 30.0  # what FFmpeg waits for
_OPTIONS = {
    # FFmpeg would look for 5 s what there is; without `nobuffer`, which drops what it looks at
    "probesize": "500000",
    "analyzeduration": "1000000",  # microseconds
    "rtsp_transport": "tcp",
}


def is_url(text: str) -> bool:
    """Whether it is written as one, whatever its scheme."""
    return _SCHEME.match(text) is not None


class UrlSource(ThreadSource):
    """A stream at an address, which does not wait. Raises UsageError for what is none that is read.

    One that has a length is a recording: it waits, and is read at its own pace where it is `paced`.
    """

    def __init__(self, url: str, *, paced: bool) -> None:
        super().__init__()
        try:
            parts = urlsplit(url)
        except ValueError as error:
            raise UsageError(
                f"{url.partition(':')[0]}:// is followed by no address: {error}"
            ) from error
        if parts.scheme.lower() not in _PROTOCOLS:
            raise UsageError(
                f"{parts.scheme}:// is not read; use {', '.join(_PROTOCOLS)}, a file, or - for"
                " standard input"
            )
        self.title = parts.hostname or "stream"
        self.waits = False
        self.label = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        """Without what is secret in it."""
        self._url = url
        self._protocols = _PROTOCOLS[parts.scheme.lower()]
        self._pace = Pace() if paced else None
        self._container: InputContainer | None = None

    async def open(self) -> None:
        """Connects, and finds the sound. Raises MediaError."""
        watch = Watch(self.label)
        self._container = await reading.reading(watch, self._opened)
        self.waits = bool(self._container.duration)

    def _opened(self) -> InputContainer:
        options = {
            **_OPTIONS,
            "protocol_whitelist": self._protocols,
            "format_whitelist": f"{DEMUXERS},rtsp",
        }
        try:
            container = av.open(
                self._url, options=options, metadata_errors="replace", timeout=(_OPEN_S, _READ_S)
            )
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise MediaError(self._unreadable(error)) from error
        if not container.streams.audio:
            container.close()
            raise NoAudioError(f"{self.label} has no audio")
        return container

    async def pieces(self) -> AsyncGenerator[bytes]:
        """As Source.pieces."""
        async with contextlib.aclosing(super().pieces()) as pieces:
            async for piece in pieces:
                if self.waits and self._pace is not None:
                    await self._pace.keep(len(piece))
                    if self._pace.stopped:
                        return
                yield piece

    def stop(self) -> None:
        """As Source.stop."""
        super().stop()
        if self._pace is not None:
            self._pace.stop()

    def read(self) -> Iterator[bytes]:
        """What is decoded of it, to its end. Raises MediaError."""
        assert self._container is not None  # noqa: S101 - it is open
        sound = Sound()
        try:
            with self._container as container:
                for piece in sound.decode(container, container.streams.audio[0]):
                    for begin in range(0, len(piece), PIECE_BYTES):
                        yield piece[begin : begin + PIECE_BYTES]
            yield from sound.finish()
        except (av.error.FFmpegError, OSError) as error:
            raise MediaError(self._unreadable(error)) from error

    def _unreadable(self, error: Exception) -> str:
        said = getattr(error, "strerror", None) or type(error).__name__
        if isinstance(error, av.error.ExitError):
            said = f"nothing came for {_OPEN_S if self._container is None else _READ_S:g} s"
        return f"{self.label} cannot be read ({said}); is the address right, and is it a stream?"
