"""Decoding: real files of several kinds, whole, offset, damaged."""

import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from tests.orchestrator import recordings
from voxroute_orchestrator.errors import CorruptMediaError, MediaNotFoundError, NoAudioError
from voxroute_orchestrator.media import CHUNK_BYTES, PcmReader, probe


def _read(reader: PcmReader) -> "recordings.Samples":
    chunks: list[bytes] = []
    while chunk := reader.read():
        assert len(chunk) <= CHUNK_BYTES
        chunks.append(chunk)
    reader.close()
    return np.frombuffer(b"".join(chunks), dtype="<i2")


def test_samples_of_a_lossless_file_come_back_as_they_are(tmp_path: Path) -> None:
    """16 kHz mono goes through untouched, in chunks of the promised size."""
    samples = recordings.steps(20)
    media = probe(recordings.write(tmp_path / "a.wav", samples))
    assert media.duration_s == pytest.approx(20)
    assert media.audio_start_s == 0
    assert np.array_equal(_read(PcmReader(media)), samples)


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "aac"), ("a.mkv", "aac"), ("a.ts", "aac")])
@pytest.mark.parametrize("rate", [16_000, 48_000])
def test_lossy_files_keep_their_length_and_rate(
    name: str, codec: str, rate: int, tmp_path: Path
) -> None:
    """Whatever the container and rate, out come 16000 samples for each second."""
    samples = recordings.speech_like(10, rate)
    media = probe(recordings.write(tmp_path / name, samples, codec=codec, rate=rate))
    heard = _read(PcmReader(media))
    assert len(heard) / 16_000 == pytest.approx(10, abs=0.15)
    loudness = float(np.sqrt(np.mean(np.square(heard, dtype=np.float64))))
    assert loudness == pytest.approx(8000 / np.sqrt(2), rel=0.05)


@pytest.mark.parametrize("start_s", [0.0, 2.5])
def test_the_offset_of_the_audio_stream_is_kept(start_s: float, tmp_path: Path) -> None:
    """Audio that begins late on the container's clock begins late on the timeline."""
    path = recordings.write(tmp_path / "a.mkv", recordings.steps(8), start_s=start_s)
    media = probe(path)
    assert media.audio_start_s == pytest.approx(start_s, abs=0.01)
    reader = PcmReader(media)
    assert len(_read(reader)) == 8 * 16_000
    assert reader.first_s == pytest.approx(start_s, abs=0.01)


@pytest.mark.parametrize("name", ["a.wav", "a.mkv", "a.mov"])
@pytest.mark.parametrize("start_s", [0.0, 3.25, 17.0, 39.5])
def test_reading_from_the_middle_gives_the_same_samples(
    name: str, start_s: float, tmp_path: Path
) -> None:
    """A reader that starts at a time begins with exactly the sample of that time."""
    samples = recordings.steps(40)
    media = probe(recordings.write(tmp_path / name, samples))
    reader = PcmReader(media, start_s=start_s)
    heard = _read(reader)
    assert reader.first_s == pytest.approx(start_s, abs=0.002)
    assert np.array_equal(heard, samples[round(reader.first_s * 16_000) :])


def test_a_gap_in_the_timestamps_becomes_silence(tmp_path: Path) -> None:
    """What follows a gap stays where its timestamps say."""
    path = recordings.write(tmp_path / "a.mkv", recordings.steps(6), gap=(3.0, 4.0))
    heard = _read(PcmReader(probe(path)))
    assert len(heard) == pytest.approx(10 * 16_000, abs=2000)
    assert int(np.median(np.abs(heard[5 * 16_000 : 6 * 16_000]))) == 0
    assert int(np.median(np.abs(heard[int(8.2 * 16_000) : int(8.8 * 16_000)]))) == 400


def test_the_stream_in_the_spoken_language_is_taken(tmp_path: Path) -> None:
    """Of several audio streams, the one labelled with the language; or the one asked for."""
    path = recordings.write(tmp_path / "a.mkv", recordings.steps(2), languages=("eng", "hin"))
    assert probe(path, language="hi").audio_stream == 1
    assert probe(path, language="ta").audio_stream == 0
    assert probe(path, stream=1).audio_language == "hi"
    with pytest.raises(NoAudioError, match="there is no 2"):
        probe(path, stream=2)


def test_files_that_are_no_media_are_refused(tmp_path: Path) -> None:
    """A missing file, a folder, a text, an empty file: each has its own sentence."""
    with pytest.raises(MediaNotFoundError, match="no file"):
        probe(tmp_path / "none.mp4")
    with pytest.raises(MediaNotFoundError, match="no regular file"):
        probe(tmp_path)
    empty = tmp_path / "empty.mp4"
    empty.touch()
    with pytest.raises(CorruptMediaError, match="empty"):
        probe(empty)
    text = tmp_path / "text.mp4"
    text.write_text("not a film\n" * 500)
    with pytest.raises(CorruptMediaError, match="cannot be opened"):
        probe(text)


def test_a_recording_that_is_only_a_header_has_no_sound(tmp_path: Path) -> None:
    """Nothing of it is missing, so it is not called damaged."""
    path = tmp_path / "a.wav"
    with av.open(str(path), "w") as container:
        container.add_stream("pcm_s16le", rate=recordings.RATE, layout="mono")
        container.start_encoding()
    with pytest.raises(NoAudioError, match="empty"):
        _read(PcmReader(probe(path)))


def test_an_mp4_without_its_index_is_refused(tmp_path: Path) -> None:
    """An mp4 that was cut off before its index cannot be opened, and the message says so."""
    path = recordings.write(tmp_path / "a.mp4", recordings.speech_like(20), codec="aac")
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(CorruptMediaError, match="cut off"):
        probe(path)


def test_a_file_that_is_cut_off_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    """What is there is transcribed, and a warning says where it ends."""
    path = recordings.write(tmp_path / "a.wav", recordings.steps(20))
    media = probe(path)
    path.write_bytes(path.read_bytes()[: 44 + 5 * 32_000])
    reader = PcmReader(media)
    assert len(_read(reader)) == pytest.approx(5 * 16_000, abs=2000)
    assert [note.code for note in reader.notes] == ["TRUNCATED_MEDIA"]


def test_damaged_packets_are_skipped_and_told(tmp_path: Path) -> None:
    """Garbage in the middle costs what it covers: the rest keeps its time, and a warning tells."""
    samples = recordings.speech_like(30)
    path = recordings.write(tmp_path / "a.mkv", samples, codec="flac")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    for at in range(middle, middle + len(data) // 20, 7):
        data[at] ^= 0x5A
    path.write_bytes(data)
    reader = PcmReader(probe(path))
    heard = _read(reader)
    assert reader.notes
    assert np.array_equal(heard[: 10 * 16_000], samples[: 10 * 16_000])


READ_ALL = """
import resource, sys
from pathlib import Path
from voxroute_orchestrator.media import PcmReader, probe

media = probe(Path(sys.argv[1]))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
reader, total = PcmReader(media), 0
while chunk := reader.read():
    total += len(chunk)
print(total, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_long_recording_is_never_in_memory_as_a_whole(tmp_path: Path) -> None:
    """An hour (115 MB of samples) is read with less than 30 MB more at the peak."""
    samples = np.resize(recordings.speech_like(60), 3600 * 16_000)
    path = recordings.write(tmp_path / "a.wav", samples)
    answer = subprocess.run(
        [sys.executable, "-c", READ_ALL, str(path)], check=True, capture_output=True, text=True
    )
    total, more_kb = map(int, answer.stdout.split())
    assert total == 3600 * 32_000
    assert more_kb < 30_000
