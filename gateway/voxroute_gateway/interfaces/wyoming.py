"""Speech to text by Wyoming's protocol, over TCP: what Home Assistant speaks."""

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from typing import Any, cast

from voxroute.asr.v1 import asr_pb2
from voxroute_gateway.errors import RequestError, bad_field, of_failure
from voxroute_gateway.gateway import Gateway
from voxroute_gateway.interfaces.wyoming_frames import (
    MAX_LINE_BYTES,
    Frame,
    FrameError,
    frame_bytes,
    read_frame,
)
from voxroute_gateway.languages import tag_of, tags
from voxroute_gateway.live.stream import LiveStream
from voxroute_orchestrator.client.failures import CallFailedError
from voxroute_orchestrator.errors import VoxrouteError
from voxroute_serving.telemetry.logs import get_logger

_FRAME_S = 30.0  # for an event, from its first byte on
_WRITE_S = 30.0  # for a client that does not read
_AUDIO_S = 60.0  # between two pieces of a recording
_DESCRIBE_S = 0.4  # Home Assistant gives up after a second
_FRESH_S = 60.0
_WIDTH = 2
_LEAVING_S = 10.0
_LINGER_S = 2.0
_LOWEST_RATE, _HIGHEST_RATE, _MOST_CHANNELS = 8_000, 384_000, 8  # of the contract
_MAX_NAME, _MAX_WORDS = 200, 256  # of the contract's hotwords

_log = get_logger(__name__)


@dataclass(slots=True)
class _Described:
    """What services say of themselves, as far as that is known without waiting for them."""

    gateway: Gateway
    _known: asr_pb2.GetCapabilitiesResponse | None = None
    _at: float = 0.0
    _asking: "asyncio.Task[None] | None" = None

    async def info(self) -> dict[str, Any]:
        """The event `info`'s data."""
        if self._known is None or time.monotonic() - self._at > _FRESH_S:
            self.refresh()
        if self._known is None and self._asking is not None:
            await asyncio.wait([self._asking], timeout=_DESCRIBE_S)
        return {"asr": [self._program(self._known)]}

    def refresh(self) -> None:
        """Asks a service, while nobody waits for it."""
        if self._asking is None:
            self._asking = asyncio.ensure_future(self._ask())

    async def _ask(self) -> None:
        try:
            async with self.gateway.upstream.speech() as speech:
                self._known = await speech.capabilities()
            self._at = time.monotonic()
        except (VoxrouteError, CallFailedError) as error:
            _log.info("no service says what it can do", exc_info=error)
        finally:
            self._asking = None

    def _program(self, known: asr_pb2.GetCapabilitiesResponse | None) -> dict[str, Any]:
        version = self.gateway.version
        if known is None:  # languages come from a model that is there, so there is one
            name = self.gateway.settings.model or "default"
            models = [_artifact(name, "voxroute", "", "the default model") | {"languages": tags()}]
        else:
            models = [
                _artifact(
                    one.model.id,
                    known.engine,
                    known.engine_version,
                    f"{one.model.id}, by {known.engine}",
                )
                | {"languages": list(known.languages)}
                for one in known.models
            ]
        return _artifact("voxroute", "voxroute", version, "voxroute") | {
            "models": models,
            "supports_transcript_streaming": True,
        }

    async def close(self) -> None:
        """Asks no more."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)


def _artifact(name: str, maker: str, version: str, description: str) -> dict[str, Any]:
    return {
        "name": name,
        "attribution": {"name": maker, "url": ""},
        "installed": True,
        "description": description,
        "version": version or None,
    }


class Wyoming:
    """A listener, and the connections that are open."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._described = _Described(gateway)
        self._servers: list[asyncio.Server] = []
        self._connections: dict[asyncio.Task[None], _Connection] = {}

    async def listen(self, address: str) -> str:
        """Listens at HOST:PORT; the address with its real port. Raises OSError."""
        host, _, port = address.rpartition(":")
        server = await asyncio.start_server(
            self._connected, host.strip("[]"), int(port), limit=MAX_LINE_BYTES
        )
        self._servers.append(server)
        if self._gateway.upstream.settings.asr_endpoints:
            self._described.refresh()
        return f"{host}:{server.sockets[0].getsockname()[1]}"

    async def leave(self, within_s: float) -> None:
        """Takes no new connections; those that are open get so long for what they do."""
        for server in self._servers:
            server.close()
        for task, connection in self._connections.items():
            connection.leaving = True
            if not connection.busy:
                task.cancel()
        if self._connections:
            await asyncio.wait(self._connections, timeout=min(within_s, _LEAVING_S))
        await self.close()

    async def close(self) -> None:
        """Ends everything at once."""
        for server in self._servers:
            server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._described.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - it runs in one
        connection = _Connection(self._gateway, self._described, reader, writer)
        self._connections[task] = connection
        try:
            with self._gateway.live.place("wyoming"):
                await connection.serve()
        except RequestError as failure:
            await connection.fail(failure)
        except FrameError as error:
            await connection.fail(RequestError(400, str(error), "bad_event"))
        except TimeoutError:
            await connection.fail(RequestError(408, "the client is too slow", "timeout"))
        except (VoxrouteError, CallFailedError) as error:
            failure = of_failure(error)
            own = error if failure.is_own else None
            _log.info("a recording ends", status=failure.status, code=failure.code, exc_info=own)
            await connection.fail(failure)
        except OSError:
            pass  # the client has left
        except Exception as error:  # noqa: BLE001 - nothing internal goes out
            _log.exception("a connection failed")
            await connection.fail(of_failure(error))
        finally:
            del self._connections[task]
            writer.close()


@dataclass(slots=True)
class _Connection:
    """One client: it asks what there is, and has recordings transcribed, one after the other."""

    gateway: Gateway
    described: _Described
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    busy: bool = False
    """Whether a recording comes, or is written down."""
    leaving: bool = False
    """Whether the gateway ends."""
    _asked: dict[str, Any] = field(default_factory=dict[str, Any])
    """Of the last `transcribe`."""
    _format: dict[str, int] = field(default_factory=dict[str, int])
    """Of the last recording's samples; empty before the first."""

    async def serve(self) -> None:
        """Until the client leaves. Raises what is wrong."""
        idle_s = self.gateway.settings.idle_timeout_s or None
        while not self.leaving and (frame := await self._next(idle_s)) is not None:
            match frame.type:
                case "describe":
                    await self.send("info", await self.described.info())
                case "ping":
                    await self.send("pong", frame.data)
                case "transcribe":
                    self._asked = frame.data
                case "audio-start":
                    stream = self._stream(frame)
                    self._format = {
                        name: frame.data[name] for name in ("rate", "width", "channels")
                    }
                    await self._transcribe(stream)
                case "audio-chunk" if not self._format:
                    raise bad_field("audio-chunk", "came before `audio-start`; send that one first")
                case _:
                    pass  # of other services, or newer than this

    async def _next(self, within_s: float | None) -> Frame | None:
        async with asyncio.timeout(within_s):
            return await read_frame(self.reader, _FRAME_S)

    async def send(self, kind: str, data: dict[str, Any] | None = None) -> None:
        """Sends an event. Raises TimeoutError or OSError where it cannot be sent."""
        self.writer.write(frame_bytes(Frame(kind, data or {})))
        async with asyncio.timeout(_WRITE_S):
            await self.writer.drain()

    async def fail(self, failure: RequestError) -> None:
        """Says why the connection ends, if that can be said."""
        with contextlib.suppress(OSError, TimeoutError):
            await self.send("error", {"text": failure.message, "code": failure.code})
            # what is not read when a connection ends resets it, and the error is lost on its way
            self.writer.write_eof()
            async with asyncio.timeout(_LINGER_S):
                while await self.reader.read(MAX_LINE_BYTES):
                    pass

    def _stream(self, start: Frame) -> LiveStream:
        """A call for a recording. Raises RequestError."""
        rate = _number(start, "rate", _LOWEST_RATE, _HIGHEST_RATE)
        _number(start, "width", _WIDTH, _WIDTH)
        channels = _number(start, "channels", 1, _MOST_CHANNELS)
        config = asr_pb2.LiveConfig(
            audio=asr_pb2.AudioFormat(
                pcm=asr_pb2.PcmFormat(sample_rate_hz=rate, channels=channels)
            ),
            model=self._text("name"),
            language=tag_of(self._text("language")),
        )
        if words := [*self._texts("transcript_names"), *self._texts("transcript_terms")]:
            config.decoding.hotwords.extend(words[:_MAX_WORDS])
        return LiveStream(self.gateway.upstream, config)

    def _text(self, name: str) -> str:
        given = self._asked.get(name)
        return given if isinstance(given, str) and len(given) <= _MAX_NAME else ""

    def _texts(self, name: str) -> list[str]:
        given: object = self._asked.get(name)
        texts = cast("list[object]", given) if isinstance(given, list) else []
        return [one for one in texts if isinstance(one, str) and 0 < len(one) <= _MAX_NAME]

    async def _transcribe(self, stream: LiveStream) -> None:
        """From the start of a recording to its transcript."""
        self.busy = True
        telling = asyncio.ensure_future(self._tell(stream))
        hearing = asyncio.ensure_future(self._hear(stream))
        try:
            await asyncio.wait([telling, hearing], return_when=asyncio.FIRST_COMPLETED)
            if not telling.done() and not await hearing:
                raise ConnectionResetError("the client has left")
            await telling
        finally:
            for task in (telling, hearing):
                task.cancel()
            await asyncio.gather(telling, hearing, return_exceptions=True)
            self.busy, self._asked = False, {}

    async def _hear(self, stream: LiveStream) -> bool:
        """Passes a recording on; whether it has come to its end."""
        while (frame := await self._next(_AUDIO_S)) is not None:
            match frame.type:
                case "audio-chunk":
                    for name, begun in self._format.items():
                        if frame.data.get(name, begun) != begun:
                            raise bad_field(name, f"it was {begun} in `audio-start`")
                    if len(frame.payload) % (self._format["width"] * self._format["channels"]):
                        raise bad_field("audio-chunk", "holds a part of a sample; send whole ones")
                    await stream.audio(frame.payload)
                case "audio-stop":
                    await stream.finish()
                    return True
                case "describe":
                    await self.send("info", await self.described.info())
                case _:
                    pass
        return False

    async def _tell(self, stream: LiveStream) -> None:
        """Sends the text as it is settled, and in the end all of it."""
        told, languages = "", list[str]()
        async with contextlib.aclosing(stream.events()) as replies:
            async for reply in replies:
                match reply.WhichOneof("event"):
                    case "committed":
                        text = reply.committed.text
                        if not told:
                            text = text.lstrip()
                            await self.send("transcript-start")
                        told += text
                        await self.send("transcript-chunk", {"text": text})
                    case "utterance" if reply.utterance.language:
                        languages.append(reply.utterance.language)
                    case _:
                        pass
        if not told:
            await self.send("transcript-start")
        language = max(languages, key=languages.count) if languages else self._text("language")
        await self.send(
            "transcript", {"text": told.strip(), **({"language": language} if language else {})}
        )
        await self.send("transcript-stop")


def _number(start: Frame, name: str, least: int, most: int) -> int:
    given: object = start.data.get(name)
    if isinstance(given, bool) or not isinstance(given, int) or not least <= given <= most:
        wanted = str(least) if least == most else f"a number from {least} to {most}"
        raise bad_field(name, f"it has to be {wanted}")
    return given
