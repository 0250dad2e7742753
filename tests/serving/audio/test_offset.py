"""Sound around another level than zero: brought back to it, and no other sound is touched."""

import io
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import pytest

from tests.serving.recordings import Source, s16le, speech, tone
from voxroute_orchestrator.media import PcmReader, probe
from voxroute_serving.audio.decoders import ContainerDecoder, ContainerFormat
from voxroute_serving.audio.offset import Offset
from voxroute_serving.audio.pcm import PcmDecoder, PcmFormat
from voxroute_serving.audio.samples import SAMPLE_RATE, Samples

VOICE = (speech(6.0, 3) / 3).astype(np.float32)  # +-0.1
STEREO = 2
LOSSY = {"pcm_u8", "pcm_mulaw"}


def wav(*channels: Samples, codec: str = "pcm_s16le") -> bytes:
    """A WAV file."""
    layout = "stereo" if len(channels) == STEREO else "mono"
    made = io.BytesIO()
    with av.open(made, "w", format="wav") as container:
        stream = cast("Any", container).add_stream(codec, rate=SAMPLE_RATE, layout=layout)
        packed = np.stack(channels, axis=1)
        for begin in range(0, len(packed), 1024):
            piece = np.ascontiguousarray(packed[begin : begin + 1024].reshape(1, -1))
            frame = av.AudioFrame.from_ndarray(cast("Any", piece), format="flt", layout=layout)
            frame.sample_rate, frame.pts = SAMPLE_RATE, begin
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return made.getvalue()


def both(data: bytes, path: Path) -> list[tuple[Samples, set[str]]]:
    """What a service hears of the file, and what the command sends of it; what each tells."""
    decoder = ContainerDecoder(ContainerFormat(), Source(data), 3600.0)
    heard = np.concatenate(list(decoder))
    path.write_bytes(data)
    reader = PcmReader(probe(path))
    sent: Any = np.frombuffer(b"".join(iter(reader.read, b"")), "<i2")
    codes = {note.code for note in reader.notes}
    return [
        (heard, {one.code for one in decoder.remarks}),
        ((sent / 32768).astype(np.float32), codes),
    ]


@pytest.mark.parametrize("codec", ["pcm_s16le", "pcm_u8", "pcm_s24le", "pcm_f32le", "pcm_mulaw"])
@pytest.mark.parametrize("offset", [0.6, -0.85])
def test_a_voice_around_a_constant_offset_is_heard_around_zero(
    codec: str, offset: float, tmp_path: Path
) -> None:
    """A constant is taken off from the first sample, and told, whatever the format."""
    for heard, codes in both(wav(VOICE + np.float32(offset), codec=codec), tmp_path / "film.wav"):
        assert codes == {"OFFSET_REMOVED"}
        for begin in range(0, len(heard), SAMPLE_RATE):
            assert abs(heard[begin : begin + SAMPLE_RATE].mean()) < 0.01
        assert np.corrcoef(heard, VOICE[: len(heard)])[0, 1] > (0.9 if codec in LOSSY else 0.99)


def test_an_offset_is_taken_off_each_channel(tmp_path: Path) -> None:
    """One channel's is not the other's."""
    data = wav(VOICE + np.float32(0.7), VOICE - np.float32(0.2))
    for heard, codes in both(data, tmp_path / "film.wav"):
        assert codes == {"OFFSET_REMOVED"}
        assert np.corrcoef(heard, VOICE[: len(heard)])[0, 1] > 0.99


def test_an_offset_that_begins_on_the_way_fades_out_without_a_click(tmp_path: Path) -> None:
    """A second after it has begun it is gone, and after it has ended too."""
    quiet = (tone(12.0, 300) / 30).astype(np.float32)
    step = np.zeros_like(quiet)
    step[4 * SAMPLE_RATE : 8 * SAMPLE_RATE] = 0.6
    for heard, codes in both(wav(quiet + step), tmp_path / "film.wav"):
        assert codes == {"OFFSET_REMOVED"}
        for begin_s, end_s in ((0.0, 3.0), (5.5, 7.5), (9.5, 12.0)):
            part = slice(int(begin_s * SAMPLE_RATE), int(end_s * SAMPLE_RATE))
            assert np.abs(heard[part] - quiet[part]).max() < 0.01


def test_raw_samples_of_a_client_lose_their_offset() -> None:
    """Also those at 16 kHz, which nothing else is done to."""
    decoder = PcmDecoder(PcmFormat(), Source(s16le(VOICE + np.float32(0.6))), 3600.0)
    heard = np.concatenate(list(decoder))
    assert abs(heard.mean()) < 0.005
    assert [one.code for one in decoder.remarks] == ["OFFSET_REMOVED"]


@pytest.mark.parametrize("hz", [20.0, 50.0, 262.3, 1000.0])
def test_sound_without_an_offset_is_not_touched(hz: float) -> None:
    """Speech and loud tones pass, also a tone that a sparse look takes for an offset."""
    for sound in (speech(5.0), 3 * tone(5.0, hz)):
        offset = Offset()
        data = s16le(sound)
        pieces = [data[at : at + 12_000] for at in range(0, len(data), 12_000)]
        assert b"".join(map(offset.removed, pieces)) == data
        assert not offset.remarks()
