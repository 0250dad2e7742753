"""Films and recordings with all that may be around picture and sound, made with PyAV."""

import io
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.stream import Disposition
from av.video.frame import VideoFrame

RATE = 48_000
SAMPLES = 1024


@dataclass
class Film:
    """What a film is to have; None for no picture or no sound."""

    muxer: str
    picture: str | None = "mpeg4"
    sound: str | None = "aac"
    sample_entry: str = ""
    rotation: int | None = None
    n_chapters: int = 0
    font: bytes = b""
    cover: bool = False
    teletext: bool = False
    marks: Disposition = Disposition.default
    title: str = ""
    language: str = ""
    metadata: dict[str, str] = field(default_factory=dict[str, str])
    seconds: int = 1

    def write(self, target: Path | io.BytesIO) -> None:
        """Makes it."""
        where: Any = str(target) if isinstance(target, Path) else target
        with av.open(where, "w", format=self.muxer) as container:
            self._write(container)

    def _write(self, container: Any) -> None:
        container.metadata.update(self.metadata)
        picture = self._add_picture(container) if self.picture else None
        sound = self._add_sound(container) if self.sound else None
        teletext = container.add_mux_stream("dvb_teletext") if self.teletext else None
        if self.font:
            container.add_attachment("font.ttf", "application/x-truetype-font", self.font)
        cover = self._add_cover(container) if self.cover else None
        if self.n_chapters:
            container.set_chapters([_chapter(number) for number in range(self.n_chapters)])
        if cover is not None:
            container.mux(cover.encode(_grey(32, 32, "yuvj420p")))
        if picture is not None:
            for number in range(25 * self.seconds):
                container.mux(picture.encode(_grey(64, 48, "yuv420p", number)))
        if sound is not None:
            self._write_sound(container, sound)
        if teletext is not None:
            packet = av.Packet(bytes(46))
            packet.stream, packet.time_base = teletext, Fraction(1, 90_000)
            packet.pts = packet.dts = 90_000
            container.mux(packet)
        for stream in (picture, sound):
            if stream is not None:
                container.mux(stream.encode(None))

    def _add_sound(self, container: Any) -> Any:
        stream = container.add_stream(self.sound, rate=RATE, layout="stereo")
        stream.disposition = self.marks
        if self.title:
            stream.metadata["title"] = self.title
        if self.language:
            stream.metadata["language"] = self.language
        return stream

    def _add_cover(self, container: Any) -> Any:
        if self.muxer == "matroska":
            container.add_attachment("cover.jpg", "image/jpeg", jpeg())
            return None
        stream = container.add_stream("mjpeg", rate=1, width=32, height=32)
        stream.pix_fmt = "yuvj420p"
        stream.disposition = Disposition.attached_pic
        return stream

    def _write_sound(self, container: Any, sound: Any) -> None:
        size = sound.codec_context.frame_size or SAMPLES
        for number in range(self.seconds * RATE // size):
            container.mux(sound.encode(_silence(sound.codec_context.format.name, number, size)))

    def _add_picture(self, container: Any) -> Any:
        stream = container.add_stream(self.picture, rate=25, width=64, height=48)
        stream.pix_fmt = "yuv420p"
        if self.sample_entry:
            stream.codec_context.codec_tag = self.sample_entry
        if self.rotation is not None:
            stream.set_display_rotation(self.rotation)
        if self.picture == "libx265":
            stream.codec_context.options = {"x265-params": "log-level=none"}
        return stream


def _chapter(number: int) -> dict[str, Any]:
    return {
        "id": number,
        "start": number * 300,
        "end": number * 300 + 300,
        "time_base": Fraction(1, 1000),
        "metadata": {"title": f"Part {number}"},
    }


def _grey(width: int, height: int, pixels: str, number: int = 0) -> VideoFrame:
    array = np.full((height, width, 3), number * 3 % 255, np.uint8)
    frame = VideoFrame.from_ndarray(array, format="rgb24").reformat(format=pixels)
    frame.pts = number
    return frame


def _silence(samples: str, number: int, size: int) -> AudioFrame:
    planar = samples.endswith("p")
    kind = {"flt": np.float32, "s16": np.int16, "s32": np.int32}[samples.removesuffix("p")]
    shape = (2, size) if planar else (1, 2 * size)
    zeros: Any = np.zeros(shape, kind)
    frame = AudioFrame.from_ndarray(zeros, format=samples, layout="stereo")
    frame.sample_rate = RATE
    frame.pts = number * size
    return frame


def jpeg() -> bytes:
    """A small picture."""
    context: Any = av.CodecContext.create("mjpeg", "w")
    context.width = context.height = 32
    context.pix_fmt, context.time_base = "yuvj420p", Fraction(1, 25)
    return bytes(context.encode(_grey(32, 32, "yuvj420p"))[0])
