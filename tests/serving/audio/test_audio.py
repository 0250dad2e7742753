"""Decoding: the bytes of a request to 16 kHz mono samples on the media's clock."""

import io
import resource
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.serving.recordings import Media, Source, faststart, media, s16le, silence, tone
from voxroute_serving.audio import decoders as audio
from voxroute_serving.audio.decoders import ContainerDecoder, ContainerFormat
from voxroute_serving.audio.pcm import PcmDecoder, PcmFormat
from voxroute_serving.audio.samples import SAMPLE_RATE, Samples
from voxroute_serving.errors import InvalidAudioError, LimitExceededError
from voxroute_serving.testing.fake_engine import tone_hz

MP4 = Media("mp4", "aac", video=True)
FILES = {
    "mp4": MP4,
    "mp4 in fragments": Media("mp4", "aac", options={"movflags": "frag_keyframe+empty_moov"}),
    "mkv": Media("matroska", "aac", video=True),
    "webm": Media("webm", "libopus", rate=48_000),
    "wav": Media("wav", "pcm_s16le"),
    "mp3": Media("mp3", "mp3"),
    "flac": Media("flac", "flac"),
    "ogg": Media("ogg", "libopus", rate=48_000),
    "mpeg-ts": Media("mpegts", "aac", video=True),
    "avi": Media("avi", "mp3", video=True),
    "mono": Media("wav", "pcm_s16le", rate=8_000, layout="mono"),
    "5.1": Media("matroska", "ac3", rate=48_000, layout="5.1"),
}


def decoded(data: bytes, stream: int = 0, limit_s: float = 3600.0) -> tuple[Samples, float]:
    """The samples and the media time of the first one."""
    decoder = ContainerDecoder(ContainerFormat(stream), Source(data), limit_s)
    blocks = list(decoder)
    return np.concatenate(blocks), decoder.start_s


def pcm(data: bytes, rate: int, channels: int = 1, piece: int = 5_000) -> Samples:
    """The samples of raw bytes."""
    blocks = list(PcmDecoder(PcmFormat(rate, channels), Source(data, piece), 3600.0))
    return np.concatenate(blocks)


@pytest.mark.parametrize("name", FILES)
def test_every_usual_container_is_decoded(name: str) -> None:
    """Whatever the container, codec, rate and channels: 5 s of 440 Hz are 5 s of 440 Hz."""
    decoder = ContainerDecoder(ContainerFormat(), Source(media(FILES[name])), 3600.0)
    samples = np.concatenate(list(decoder))
    assert decoder.damaged_packets == decoder.missing_s == 0
    assert len(samples) / SAMPLE_RATE == pytest.approx(5.0, abs=0.06)
    middle = samples[SAMPLE_RATE : 4 * SAMPLE_RATE]
    assert tone_hz(middle) == 440
    assert 0.1 < np.abs(middle).max() < 0.6


def test_an_mp4_with_its_index_in_front_is_decoded_while_it_arrives() -> None:
    """The first samples come out long before the last bytes were read."""
    data = faststart(media(Media("mp4", "aac", video=True, seconds=60.0)))
    source = Source(data)
    blocks = iter(ContainerDecoder(ContainerFormat(), source, 3600.0))
    first = len(next(blocks))
    assert source.n_read < len(data) / 2
    assert (first + sum(map(len, blocks))) / SAMPLE_RATE == pytest.approx(60.0, abs=0.1)


def test_an_mp4_with_its_index_at_the_end_is_kept_on_disk_until_then(tmp_path: Path) -> None:
    """Such a file cannot be decoded as a stream; both orders give the same samples."""
    data = media(MP4)
    spools: list[BinaryIO] = []

    def spool() -> BinaryIO:
        spools.append((tmp_path / "spool").open("w+b"))
        return spools[0]

    at_end = np.concatenate(
        list(ContainerDecoder(ContainerFormat(), Source(data), 3600.0, spool=spool))
    )
    assert spools[0].closed
    in_front, _ = decoded(faststart(data))
    assert np.array_equal(at_end, in_front)


def test_a_full_disk_is_told_with_the_way_around_it() -> None:
    """The service says that its disk is full, and how not to need it."""
    decoder = ContainerDecoder(
        ContainerFormat(),
        Source(media(MP4)),
        3600.0,
        spool=lambda: Path("/dev/full").open("w+b"),  # noqa: SIM115 - the decoder closes it
    )
    with pytest.raises(LimitExceededError, match=r"no room.*faststart.*No space left"):
        list(decoder)


@pytest.mark.parametrize("container", ["matroska", "mp4"])
def test_the_start_of_the_audio_in_the_container_is_its_media_time(container: str) -> None:
    """Audio that begins 1.5 s after the picture begins at 1.5 s."""
    _, start_s = decoded(media(Media(container, "aac", video=True, start_s=1.5)))
    assert start_s == pytest.approx(1.5, abs=0.03)


def test_the_clock_of_a_broadcast_counts_from_its_first_packet() -> None:
    """An MPEG-TS clock starts anywhere; media time is relative to its first packet."""
    _, start_s = decoded(media(Media("mpegts", "aac", video=True)))
    assert start_s == pytest.approx(0.0, abs=0.1)


def test_a_hole_in_the_clock_becomes_silence() -> None:
    """Sound after a hole keeps its media time."""
    first = media(Media("mpegts", "aac", seconds=2.0, tones_hz=[440.0]))
    later = media(Media("mpegts", "aac", seconds=2.0, start_s=5.0, tones_hz=[880.0]))
    samples, _ = decoded(first + later)
    assert len(samples) / SAMPLE_RATE == pytest.approx(7.0, abs=0.15)
    assert np.abs(samples[3 * SAMPLE_RATE : 4 * SAMPLE_RATE]).max() == 0
    assert tone_hz(samples[int(5.5 * SAMPLE_RATE) : int(6.5 * SAMPLE_RATE)]) == 880


def test_the_chosen_audio_stream_is_decoded() -> None:
    """Stream 1 is the second one."""
    data = media(Media("matroska", "flac", tones_hz=[440.0, 880.0]))
    assert tone_hz(decoded(data, 0)[0]) == 440
    assert tone_hz(decoded(data, 1)[0]) == 880


def test_a_stream_that_the_file_does_not_have_is_refused_with_their_number() -> None:
    """The error says how many there are and names the field."""
    data = media(Media("matroska", "flac", tones_hz=[440.0, 880.0]))
    with pytest.raises(InvalidAudioError, match="2 audio streams") as caught:
        decoded(data, 2)
    assert caught.value.violations[0].field == "audio.container.audio_stream"


CUT_OFF = {name: file for name, file in FILES.items() if name != "mpeg-ts"}


@pytest.mark.parametrize("share", [0.15, 0.66, 0.97])
@pytest.mark.parametrize("name", CUT_OFF)
def test_a_file_that_is_cut_off_is_never_a_shorter_recording(name: str, share: float) -> None:
    """FFmpeg reads a cut-off file to its last whole packet; here it is an error that says so."""
    data = media(CUT_OFF[name])
    with pytest.raises(InvalidAudioError, match="cut off"):
        decoded(data[: int(len(data) * share)])


def test_an_mp4_with_its_index_in_front_that_is_cut_off_is_reported() -> None:
    """The same where decoding has long begun."""
    data = faststart(media(MP4))
    with pytest.raises(InvalidAudioError, match="cut off"):
        decoded(data[: len(data) * 2 // 3])


NOT_MEDIA = {
    "text": b"Dear diary, today nothing was recorded.\n" * 200,
    "noise": np.random.default_rng(0).bytes(200_000),
    "subtitles": b"1\n00:00:01,000 --> 00:00:02,000\nhello\n\n" * 20,
    "one byte": b"x",
}


@pytest.mark.parametrize("name", NOT_MEDIA)
def test_bytes_that_are_no_media_file_are_refused(name: str) -> None:
    """The error says what to send."""
    with pytest.raises(InvalidAudioError, match="send a file with sound"):
        decoded(NOT_MEDIA[name])


PLAYLISTS = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nfile://{wav}\n#EXT-X-ENDLIST\n",
    "concat": "ffconcat version 1.0\nfile '{wav}'\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
    "m=audio 5004 RTP/AVP 0\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"'
    ' mediaPresentationDuration="PT5S"><Period><AdaptationSet contentType="audio">'
    '<Representation id="0" bandwidth="1"><BaseURL>file://{wav}</BaseURL>'
    "</Representation></AdaptationSet></Period></MPD>",
}


@pytest.mark.parametrize("kind", PLAYLISTS)
def test_playlists_open_nothing(kind: str, tmp_path: Path) -> None:
    """A file that names further files or addresses is refused; the service reads none of them."""
    wav = tmp_path / "secret.wav"
    wav.write_bytes(media(FILES["wav"]))
    with pytest.raises(InvalidAudioError, match="no media file"):
        decoded(PLAYLISTS[kind].format(wav=wav).encode())


def test_a_film_without_sound_is_refused() -> None:
    """Picture alone is no recording."""
    with pytest.raises(InvalidAudioError, match="no audio stream"):
        decoded(media(Media("mp4", "aac", video=True, tones_hz=[])))


def test_damage_in_the_middle_is_silence_that_is_counted() -> None:
    """Bytes overwritten in the middle become silence, and their length is told."""
    data = bytearray(media(Media("matroska", "flac", seconds=20.0)))
    few, many = data.copy(), data.copy()
    few[100_000:100_400] = bytes(400)
    many[60_000:300_000] = np.random.default_rng(0).bytes(240_000)
    decoder = ContainerDecoder(ContainerFormat(), Source(bytes(few)), 3600.0)
    assert sum(map(len, decoder)) / SAMPLE_RATE == pytest.approx(20.0, abs=0.2)
    assert decoder.damaged_packets > 0
    decoder = ContainerDecoder(ContainerFormat(), Source(bytes(many)), 3600.0)
    decoded_s = sum(map(len, decoder)) / SAMPLE_RATE
    assert decoded_s < 19.0
    assert decoded_s + decoder.missing_s == pytest.approx(20.0, abs=0.2)


@pytest.mark.parametrize("make", [PcmFormat, ContainerFormat])
def test_no_bytes_are_no_recording(make: Callable[[], audio.AudioFormat]) -> None:
    """Nothing at all is an error, not an empty transcript."""
    with pytest.raises(InvalidAudioError, match="no audio"):
        list(audio.decoder(make(), Source(b""), 10.0))


def test_a_longer_recording_than_is_taken_is_refused() -> None:
    """The limit holds for raw samples and for files, and says what to do."""
    with pytest.raises(LimitExceededError, match="longer than the 2 s"):
        list(PcmDecoder(PcmFormat(), Source(s16le(silence(3.0))), 2.0))
    with pytest.raises(LimitExceededError, match="longer than the 2 s"):
        decoded(media(MP4), limit_s=2.0)


def test_an_odd_number_of_bytes_is_refused() -> None:
    """Half a sample at the end means that bytes were lost."""
    with pytest.raises(
        InvalidAudioError, match=r"odd number of bytes \(4097\); send whole 16-bit samples"
    ):
        pcm(bytes(4097), 16_000)
    with pytest.raises(InvalidAudioError, match=r"4098 bytes.* 2 channels"):
        pcm(bytes(4098), 16_000, channels=2)


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 44_100, 48_000, 192_000])
def test_raw_samples_of_any_rate_become_16_khz(rate: int) -> None:
    """Length and pitch stay."""
    samples = pcm(s16le(tone(2.0, 440.0, rate)), rate)
    assert len(samples) == pytest.approx(2 * SAMPLE_RATE, abs=32)
    assert tone_hz(samples) == 440


def test_channels_are_mixed_by_their_mean() -> None:
    """Left at full and right at zero is mono at half."""
    stereo = np.stack([tone(1.0), silence(1.0)], axis=1).reshape(-1)
    samples = pcm(s16le(stereo), 16_000, channels=2)
    assert np.allclose(samples, tone(1.0) / 2, atol=1e-4)


@settings(deadline=None, max_examples=25)
@given(
    piece=st.integers(1, 70_000),
    rate=st.sampled_from([8_000, 16_000, 22_050, 48_000]),
    channels=st.integers(1, 3),
)
def test_chunks_may_be_cut_anywhere(piece: int, rate: int, channels: int) -> None:
    """The same bytes give the same samples, whatever the chunks."""
    noise = np.random.default_rng(1).integers(-20_000, 20_000, rate * channels // 2, "<i2")
    data = noise[: len(noise) // channels * channels].astype("<i2").tobytes()
    whole = pcm(data, rate, channels, piece=len(data))
    assert np.array_equal(pcm(data, rate, channels, piece=max(piece, 97)), whole)


def test_memory_does_not_grow_with_the_recording() -> None:
    """Ten times the recording takes no more memory."""

    class Endless(io.RawIOBase):
        def __init__(self, n_bytes: int) -> None:
            self.left = n_bytes

        def read(self, n: int = -1, /) -> bytes:
            n = min(n, self.left)
            self.left -= n
            return bytes(n)

    def peak_kib(seconds: int) -> int:
        for _ in PcmDecoder(PcmFormat(48_000, 2), Endless(seconds * 192_000), 1e9):
            pass
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    short = peak_kib(30)
    assert peak_kib(600) - short < 20_000
