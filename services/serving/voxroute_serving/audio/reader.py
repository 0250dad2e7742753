"""The sound of opened media on its own clock: 16 kHz mono samples, each at its media time.

The one reader, of the services for the bytes of a file and of the command for what it sends as
raw samples; so both hear the same at the same time. Media time is what players show. The clock of
a file may begin anywhere, stand at a rounding before zero, leave holes, repeat what was there, wrap
around, and start again where recordings were joined; nothing of the sound is dropped but what is
there twice, and whatever had to be done is told (`Sound.remarks`).
"""

import contextlib
from collections import deque
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, NamedTuple, cast

from voxroute_serving.audio.media import SAMPLE_BYTES, SAMPLE_RATE
from voxroute_serving.audio.mixing import Mixed, Mixer
from voxroute_serving.audio.remarks import NAMED, Event, Remark, told_holes, told_places
from voxroute_serving.audio.repeats import is_repeated
from voxroute_serving.audio.signatures import UNREAD_TOLD_BYTES, may_be_frame
from voxroute_serving.audio.tracks import codec_context

if TYPE_CHECKING:
    import av
    from av.audio.stream import AudioStream
    from av.container import InputContainer

GAP_TOLD_S = 0.5  # s; a person would miss what is longer

_JITTER_S = 0.03  # s; times that are off by less are rounding
_AHEAD_S = 0.5  # s of frames that are looked at before one is placed
_OUTLIER_S = 1.0  # s; a step by less is one only if all that is ahead has made it
_CORRECTED_S = 0.25  # s; an overlap up to this is a clock that differs from the samples', and cut
_MAX_REPEAT_S = 30.0  # s; what is further back than that is no repetition
_NEAR_START_S = 0.1
_MAX_HOLE_S = 3600.0  # s; a longer one is a broken time, unless the file is said to be that long
_MAX_JOINED_HOLE_S = 30.0  # s; where clocks may step, a longer one is another recording's clock
_WRAPS_S = (2**33 / 90_000, 2**32 / 1000)  # of MPEG's and of FLV's clock
_SILENCE_BYTES = SAMPLE_RATE * SAMPLE_BYTES

# Formats whose clock has no zero of its own, so that players count from their first packet.
_FREE_RUNNING_CLOCKS = frozenset({"mpegts", "mpeg", "hls", "flv", "live_flv", "kux", "ogg", "mp3"})
# Those in which recordings are joined by writing one behind the other.
_STEPPING_CLOCKS = _FREE_RUNNING_CLOCKS | {"flac"}
# Those without a clock: FFmpeg counts, and wrongly so where the rate changes.
COUNTED = frozenset(
    {"aac", "ac3", "eac3", "mp3", "dts", "dtshd", "mlp", "truehd", "loas", "amr", "amrnb", "amrwb"}
)
# Those in which the codec of a stream may change; PyAV's decoder stays the one it was.
_CHANGE_CODECS = frozenset({"mpegts"})
_REST_BYTES = 1 << 14  # behind a stream's last packet; less is no other stream
_FAILING = 8  # packets in a row; a fifth of a second
_MP3_HEADER_BYTES = 256
_MP3_HEADERS = (b"Xing", b"Info", b"LAME", b"VBRI")
_MICROSECONDS = 1_000_000


def formats(container: "InputContainer") -> frozenset[str]:
    """The names of the container's format."""
    return frozenset(container.format.name.split(","))


def zero_s(container: "InputContainer") -> float:
    """Where on the container's clock media time is zero, seconds."""
    # PyAV's type says int, but a container of unknown start has None
    start = cast("int | None", container.start_time)
    if start is None or not formats(container) & _FREE_RUNNING_CLOCKS:
        return 0.0
    return start / _MICROSECONDS


class _Placed(NamedTuple):
    """A frame and its time on the container's clock, seconds; None where it has none."""

    time_s: float | None
    frame: "av.AudioFrame"
    length_s: float


def resumption(sound: "Sound", n_bytes: int) -> int | None:
    """Where a part of `n_bytes` is to be opened anew; None where all of it has been read."""
    if sound.resume_at is not None or sound.ended_at is None:
        return sound.resume_at
    return sound.ended_at if n_bytes - sound.ended_at > _REST_BYTES else None


def heard_from_the_start(container: "InputContainer") -> set[int]:
    """The numbers of the audio streams of which FFmpeg has heard something when it opened them.

    Of one that begins where another ends, in a short recording, it knows the number alone.
    """
    streams = container.streams.audio
    return {one.id for one in streams if (context := codec_context(one)) and context.sample_rate}


def successor(
    container: "InputContainer", stream: "AudioStream", known: set[int], *, changed: bool
) -> "AudioStream | None":
    """The stream that goes on in place of one, in a part that was opened anew; None for none.

    One whose codec has `changed` keeps its number, mostly; else it is one that was not `known`,
    and is from now on.
    """
    found = sorted(container.streams.audio, key=lambda one: one.id != stream.id)
    streams = found if changed else [one for one in found if one.id not in known]
    known.update(one.id for one in found)
    return streams[0] if streams else None


class Sound:
    """The samples of the parts of one recording, in order.

    `decode` is called for each opened part; all its samples come out as 16 kHz mono s16le, and
    with `finish` the last of them. `channel` is the one wanted, counted from 0; None for a mix.
    `declared_end_s` is how long the container says it is, where that is known.
    """

    def __init__(self, *, channel: int | None = None, declared_end_s: float | None = None) -> None:
        self.start_s: float | None = None
        """Media time of the first sample; None before it is known."""
        self.n_samples = 0
        """Samples that have come out."""
        self.packets = 0
        self.damaged_packets = 0
        self.filled_s = 0.0
        """Holes that were filled with silence, seconds."""
        self.joins: list[float] = []
        """Media times at which the clock starts again, or another part begins."""
        self.encrypted = False
        """Whether the packets say that they are; none of them has been decoded then."""
        self.resume_at: int | None = None
        """Where in the bytes of the part to open it anew, as from there on its decoder fails."""
        self.unread_bytes = 0
        """Bytes behind the end of the last part that were not read, but zeros and tags."""
        self.ended_at: int | None = None
        """Where the stream's last packet is, if another stream may go on in its place."""
        self._mixer = Mixer(channel)
        self.channel = channel
        self._declared_end_s = declared_end_s
        self._next_s = 0.0  # media time of the next sample that is pushed
        self._shift_s = 0.0  # from the container's clock to media time
        self._part_start_s: float | None = None  # the clock's first time since it started
        self._stepping = False
        self._drop = 0  # samples at the start of what comes next
        self._recent: deque[bytes] = deque()  # what was put out, _MAX_REPEAT_S of it
        self._n_recent = 0
        self._holes: list[Event] = []
        self._repeats: list[Event] = []
        self._damages: list[tuple[float, str]] = []
        self._taken: dict[str, Event] = {}

    @property
    def now_s(self) -> float:
        """Media time of the next sample."""
        return self._next_s

    @property
    def end_s(self) -> float:
        """Media time of the end of what has come out."""
        return (self.start_s or 0.0) + self.n_samples / SAMPLE_RATE

    def damage(self, reason: str) -> None:
        """Counts a packet that cannot be decoded, here."""
        self.damaged_packets += 1
        if len(self._damages) < NAMED:
            self._damages.append((self._next_s, reason))

    def decode(
        self,
        container: "InputContainer",
        stream: "AudioStream",
        *,
        zero: float | None = None,
        steps: bool | None = None,
        goes_on: bool = False,
        check: "Callable[[av.AudioFrame], None]" = lambda _: None,
    ) -> Iterator[bytes]:
        """The samples of a part, on the clock whose zero is `zero` (else the container's own).

        `steps` tells whether the clock may step where recordings were joined, else the format does;
        `goes_on` that the part was opened anew at `resume_at`, after which `zero` must stay.
        `check` may refuse a frame. Raises FFmpegError where the container cannot be read on, and
        whatever reading it or `check` raises. A packet that cannot be decoded is counted, and the
        hole it leaves is filled.
        """
        zero = zero_s(container) if zero is None else zero
        by_format = bool(formats(container) & _STEPPING_CLOCKS)
        self._stepping = by_format if steps is None else steps
        self.resume_at = self.ended_at = None
        if self.start_s is not None and not goes_on:
            yield from self._next_part()
        source = self._placed(container, stream, check, zero)
        ahead: deque[_Placed] = deque()
        ahead_s = 0.0
        begun = False
        for one in source:
            if begun and not ahead and self._is_in_time(one):  # as nearly all are
                for piece in self._push(one):
                    yield from self._kept(*piece)
                continue
            ahead.append(one)
            ahead_s += one.length_s
            while ahead and (ahead_s > _AHEAD_S or (begun and self._is_in_time(ahead[0]))):
                begun = True
                ahead_s += yield from self._place(ahead, source)
                ahead_s -= ahead.popleft().length_s
        while ahead:
            yield from self._place(ahead, source)
            ahead.popleft()

    def push_raw(self, data: bytes, channels: int, sample_rate_hz: int) -> Iterator[bytes]:
        """The samples of raw ones, s16le and interleaved, which follow those before."""
        import av  # noqa: PLC0415 - as above
        import numpy as np  # noqa: PLC0415 - as above

        if self.start_s is None:
            self._begin(0.0)
        samples = np.frombuffer(data, "<i2").reshape(1, -1)
        # without a layout: what the channels stand for is not known
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout=f"{channels}C")
        frame.sample_rate = sample_rate_hz
        for piece in self._push(_Placed(None, frame, frame.samples / sample_rate_hz)):
            yield from self._kept(*piece)

    def finish(self) -> Iterator[bytes]:
        """The last samples."""
        yield from self._flush()

    # --- the clock

    def _is_in_time(self, one: _Placed) -> bool:
        """Whether a frame begins where the one before has ended, but for roundings."""
        if one.time_s is None:
            return False
        return -_JITTER_S <= one.time_s + self._shift_s - self._next_s <= _JITTER_S

    def _next_part(self) -> Iterator[bytes]:
        yield from self._flush()
        self.joins.append(self._next_s)
        self._part_start_s = None

    def _place(
        self, ahead: deque[_Placed], source: Iterator[_Placed]
    ) -> Generator[bytes, None, float]:
        """Puts out the first of the frames, which stays in `ahead`, where it belongs.

        Returns how much was added to `ahead`, seconds.
        """
        first, more_s = ahead[0], 0.0
        if self.start_s is None:
            self._begin(first.time_s or 0.0)
        elif self._part_start_s is None and first.time_s is not None:  # another part
            self._shift_s = self._next_s - first.time_s
            self._part_start_s = first.time_s
        step_s = self._step_s(ahead)
        if step_s and self._turned(step_s):
            step_s = self._step_s(ahead)
        if step_s > 0:
            yield from self._hole(step_s, first)
        elif step_s < 0:
            if -step_s > _CORRECTED_S:
                more_s = _extend(ahead, source, min(-step_s, _MAX_REPEAT_S))
            yield from self._back(-step_s, ahead)
        for piece in self._push(first):
            yield from self._kept(*piece)
        return more_s

    def _begin(self, time_s: float) -> None:
        """The first frame: what it has before media time zero is dropped."""
        self.start_s = max(0.0, round(time_s, 6))  # FFmpeg rounds the zero to microseconds
        self._next_s = time_s
        self._part_start_s = time_s
        if time_s < 0:
            self._drop = round(-time_s * SAMPLE_RATE)

    def _step_s(self, ahead: deque[_Placed]) -> float:
        """By how much the clock has stepped at the first of the frames; 0 for not at all.

        A time that is off alone, or for moments, is none: what follows must have made it too.
        """
        time_s = ahead[0].time_s
        if time_s is None:
            return 0.0
        first_s = time_s + self._shift_s - self._next_s
        if abs(first_s) <= _JITTER_S:
            return 0.0
        least_s, expected_s = first_s, self._next_s
        for place, one in enumerate(ahead):
            if one.time_s is not None:
                off_s = one.time_s + self._shift_s - expected_s
                if abs(first_s) >= _OUTLIER_S:
                    if place and abs(off_s) <= _JITTER_S:
                        return 0.0
                elif off_s * first_s <= 0:
                    return 0.0
                elif abs(off_s) < abs(least_s):
                    least_s = off_s
            expected_s += one.length_s
        return least_s if abs(least_s) > _JITTER_S else 0.0

    def _hole(self, length_s: float, first: _Placed) -> Iterator[bytes]:
        """Silence for what is missing, unless it is the clock that has jumped."""
        end_s = self._next_s + length_s
        declared = self._declared_end_s is not None and end_s <= self._declared_end_s + 1
        longest_s = _MAX_JOINED_HOLE_S if self._stepping else _MAX_HOLE_S
        if length_s > longest_s and (self._stepping or not declared):
            self._start_again(first, length_s)
            return
        yield from self._flush()
        self._holes.append(Event(self._next_s, length_s))
        self.filled_s += length_s
        self._next_s += length_s
        self._drop = 0
        # by the place of what follows, so that roundings do not add up
        left = round((self._next_s - (self.start_s or 0.0)) * SAMPLE_RATE) - self.n_samples
        left *= SAMPLE_BYTES
        while left > 0:
            n_bytes = min(left, _SILENCE_BYTES)
            yield self._counted(bytes(n_bytes))
            left -= n_bytes

    def _back(self, length_s: float, ahead: deque[_Placed]) -> Iterator[bytes]:
        """Drops what has been heard before, unless it is the clock that starts again."""
        if length_s > _CORRECTED_S:
            yield from self._flush()  # what is compared with has come out by then
            if not self._repeats_before(length_s, ahead):
                self._start_again(ahead[0], -length_s)
                return
            self._repeats.append(Event(self._next_s, length_s))
        else:
            yield from self._flush()
        self._drop = round(length_s * SAMPLE_RATE)
        self._next_s -= length_s

    def _turned(self, step_s: float) -> bool:
        """Whether the clock has come round; it goes on then, perhaps after a hole."""
        for wrap_s in _WRAPS_S:
            for turn_s in (wrap_s, -wrap_s):
                if abs(step_s + turn_s) <= _MAX_JOINED_HOLE_S:
                    self._shift_s += turn_s
                    return True
        return False

    def _start_again(self, first: _Placed, step_s: float) -> None:
        """Everything is kept, in order: what the clock calls this time follows the one before."""
        self.joins.append(self._next_s)
        self._shift_s -= step_s
        self._part_start_s = first.time_s or 0.0

    def _repeats_before(self, length_s: float, ahead: deque[_Placed]) -> bool:
        """Whether what comes next is what was heard `length_s` ago, until now."""
        time_s = ahead[0].time_s or 0.0
        if length_s > _MAX_REPEAT_S:
            return False
        if self._stepping and time_s <= (self._part_start_s or 0.0) + _NEAR_START_S:
            return False  # a recording from its start is another one, whatever it holds
        same = is_repeated(b"".join(self._recent), self._heard(ahead, length_s), length_s)
        return not self._stepping if same is None else same

    def _heard(self, ahead: deque[_Placed], length_s: float) -> bytes:
        """The sound of the frames ahead, up to a length; what can be converted of it."""
        import av.error  # noqa: PLC0415 - as above

        mixer = Mixer(self.channel)
        pieces: Mixed = []
        left_s = length_s
        with contextlib.suppress(av.error.FFmpegError, ValueError):
            for one in ahead:
                pieces += mixer.push(one.frame)
                left_s -= one.length_s
                if left_s <= 0:
                    break
            pieces += mixer.flush()
        return b"".join(piece for piece, _ in pieces)

    # --- samples

    def _placed(
        self,
        container: "InputContainer",
        stream: "AudioStream",
        check: "Callable[[av.AudioFrame], None]",
        zero: float,
    ) -> Iterator[_Placed]:
        """The frames with their times; those of formats without a clock follow each other."""
        counted = bool(formats(container) & COUNTED)
        count_s: float | None = None
        length_s, rate_hz = 0.0, 0
        for frame in self._frames(container, stream):
            if frame is None:
                count_s = None if count_s is None else count_s + length_s
                continue
            if frame.sample_rate != rate_hz or self.channel is not None:
                check(frame)
                rate_hz = frame.sample_rate
            time_s = frame.time
            time_s = None if time_s is None else time_s - zero
            length_s = frame.samples / rate_hz
            if counted:
                time_s = (time_s or 0.0) if count_s is None else count_s
                count_s = time_s + length_s
            yield _Placed(time_s, frame, length_s)

    def _frames(
        self, container: "InputContainer", stream: "AudioStream"
    ) -> "Iterator[av.AudioFrame | None]":
        """Decoded frames, and None for a packet that cannot be decoded."""
        import av.error  # noqa: PLC0415 - FFmpeg's libraries load only where audio is decoded

        resumes = bool(formats(container) & _CHANGE_CODECS)
        begun, named = False, 0
        failing: list[int] = []  # where the last packets are, all of which failed
        lost = False  # whether they may be frames
        for packet in _packets(container, stream):
            if not self.packets and packet.has_sidedata("encryption_info"):
                self.encrypted = True
                return
            self.packets += packet.size > 0
            if resumes and packet.size:
                self.ended_at = packet.pos
            try:
                frames = [frame for frame in packet.decode() if frame.samples]
            except (av.error.FFmpegError, MemoryError) as error:
                if _is_header(packet):
                    continue
                named = named if failing else len(self._damages)
                self.damage(reason_of(error))
                failing.append(packet.pos or 0)
                lost = lost or may_be_frame(bytes(packet))
                if resumes and begun and len(failing) >= _FAILING and failing[0] > 0:
                    # they are not damaged
                    self.damaged_packets -= len(failing)
                    del self._damages[named:]
                    self.resume_at = failing[0]
                    return
                yield None
                continue
            if frames:
                begun = True
                failing.clear()
                lost = False
            yield from frames
        if begun and failing and "mp3" in formats(container) and not lost:  # but tags, zeros
            self.damaged_packets -= len(failing)
            del self._damages[named:]

    def _push(self, one: _Placed) -> Mixed:
        """What comes out of the mixer with a frame."""
        self._next_s += one.length_s
        try:
            return self._mixer.push(one.frame)
        except Exception as error:
            import av.error  # noqa: PLC0415 - as above; this comes with each frame

            if not isinstance(error, (av.error.FFmpegError, ValueError)):
                raise
            self.damage(f"a format that cannot be converted: {reason_of(error)}")
            return []

    def _flush(self) -> Iterator[bytes]:
        for piece in self._mixer.flush():
            yield from self._kept(*piece)

    def _kept(self, piece: bytes, took: str | None) -> Iterator[bytes]:
        """The piece without what is to be dropped of it."""
        if self._drop:
            dropped = min(self._drop, len(piece) // SAMPLE_BYTES)
            self._drop -= dropped
            piece = piece[dropped * SAMPLE_BYTES :]
        if not piece:
            return
        if took is not None:
            before = self._taken.get(took, Event(self.end_s, 0.0))
            length_s = len(piece) / SAMPLE_BYTES / SAMPLE_RATE
            self._taken[took] = Event(before.at_s, before.length_s + length_s)
        yield self._counted(piece)

    def _counted(self, piece: bytes) -> bytes:
        self.n_samples += len(piece) // SAMPLE_BYTES
        self._recent.append(piece)
        self._n_recent += len(piece)
        most = int(_MAX_REPEAT_S * SAMPLE_RATE) * SAMPLE_BYTES
        while self._n_recent - len(self._recent[0]) >= most:
            self._n_recent -= len(self._recent.popleft())
        return piece

    # --- what is told

    def remarks(self) -> list[Remark]:
        """What a person should know, of what has been decoded so far."""
        told: list[Remark] = []
        if self._damages:
            places = ", ".join(f"{at_s:.1f} s" for at_s, _ in self._damages)
            more = " and later" if self.damaged_packets > len(self._damages) else ""
            told.append(
                Remark(
                    "DAMAGED_AUDIO",
                    f"{self.damaged_packets} of {self.packets} packets of audio cannot be decoded"
                    f" ({self._damages[0][1]}), at {places}{more}; what they held is missing from"
                    " the transcript",
                )
            )
        told += told_holes([hole for hole in self._holes if hole.length_s >= GAP_TOLD_S])
        if self.joins:
            told.append(
                Remark(
                    "JOINED_MEDIA",
                    f"the clock of the file starts again at {told_places(self.joins)}, as in"
                    " recordings that were joined; all of them are taken, one after the other, so"
                    " check that the player shows the same times",
                )
            )
        if self.unread_bytes >= UNREAD_TOLD_BYTES:
            told.append(
                Remark(
                    "UNREAD_MEDIA",
                    f"{self.unread_bytes} bytes stand behind the end that the file itself tells,"
                    " and are no recording that is known; what they hold may be missing from the"
                    " transcript",
                )
            )
        if self._repeats:
            told.append(
                Remark(
                    "REPEATED_AUDIO",
                    "the file holds the same sound twice before"
                    f" {told_places([one.at_s for one in self._repeats])}; it is taken once",
                )
            )
        for name, taken in self._taken.items():
            told.append(
                Remark(
                    "CHANNEL_CHOSEN",
                    f"the mix of the channels loses the voice for {taken.length_s:.0f} s, first at"
                    f" {taken.at_s:.1f} s; {name} is taken there, counted from 0 (--channel"
                    " chooses)",
                )
            )
        told += [
            Remark(
                "CHANNEL_FAINT",
                f"channel {faint.channel} of {of} speaks alone for {faint.alone_s:.0f} s,"
                f" {faint.by_db:.0f} dB fainter than the other; what it says may be missing"
                f" (--channel {faint.channel} hears it alone)",
            )
            for faint, of in self._mixer.faint
        ]
        return told + self._mixer.offset.remarks()


def reason_of(error: Exception) -> str:
    """FFmpeg's or the system's reason, in its words."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).rstrip(".")


def _packets(
    container: "InputContainer", stream: "AudioStream"
) -> "Iterator[av.Packet[AudioStream]]":
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except (StopIteration, IndexError):
            # PyAV 18.1 ends with the latter where the file has gained a stream on the way
            return
        yield packet


def _is_header(packet: "av.Packet[AudioStream]") -> bool:
    """Whether an mp3's packet holds no sound, but what its encoder tells of the whole."""
    start = bytes(packet)[:_MP3_HEADER_BYTES]
    return any(mark in start for mark in _MP3_HEADERS)


def _extend(ahead: deque[_Placed], source: Iterator[_Placed], length_s: float) -> float:
    """Looks so far ahead that a repetition of that length shows, or to the next step.

    Returns how much further that is, seconds.
    """
    more_s = 0.0
    have_s = sum(one.length_s for one in ahead)
    while have_s + more_s < length_s:
        one = next(source, None)
        if one is None:
            break
        last = ahead[-1]
        ahead.append(one)
        more_s += one.length_s
        if one.time_s is None or last.time_s is None:
            continue
        if abs(one.time_s - last.time_s - last.length_s) > _CORRECTED_S:
            break
    return more_s
