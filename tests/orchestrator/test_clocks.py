"""Clocks of recordings that are not what one would wish, and what is told of them."""

import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import pytest

from tests.orchestrator.test_one_reader import (
    as_bytes,
    as_samples,
    check,
    differences,
    moved,
    score,
)
from tests.serving.beeps import KINDS, Beep, dice, heard, recording
from tests.serving.recordings import Media, media
from voxroute_orchestrator.errors import MediaError
from voxroute_orchestrator.media import PcmReader, Source, probe
from voxroute_serving.audio.reader import Sound
from voxroute_serving.audio.structure import parts
from voxroute_serving.errors import InvalidAudioError

TS, MKV = KINDS["ts-aac"], KINDS["mkv"]
PACKET = 188


def _score(seconds: float, seed: int) -> list[Beep]:
    return score(seconds, dice(seed))


@pytest.mark.parametrize("start_s", [0.0, 0.0000037, 1.4, 12.34567, 77.7777])
@pytest.mark.parametrize("name", ["ts-mp2", "vob", "flv-mp3"])
def test_a_clock_begins_at_zero_whatever_its_roundings(
    name: str, start_s: float, tmp_path: Path
) -> None:
    """FFmpeg rounds the zero of such clocks to microseconds; no sample comes before it."""
    beeps = _score(3.0, 1)
    data = recording(KINDS[name], 3.0, beeps, start_s=start_s, video=True)
    told = check(data, beeps, tmp_path / "film.ts")
    assert not told.codes
    media = probe(tmp_path / "film.ts")
    assert media.audio_start_s >= 0
    reader = PcmReader(media)
    assert reader.read()
    assert 0 <= reader.first_s < 0.05
    reader.close()


@pytest.mark.parametrize("name", ["ts-aac", "flv", "mp4", "mkv", "mov"])
def test_audio_that_begins_after_the_picture_begins_late(name: str, tmp_path: Path) -> None:
    """By its place on the clock, also of containers whose clock counts from the first packet."""
    beeps = [one for one in _score(6.0, 2) if one.at_s > 2.2]
    kind = KINDS[name]
    data = recording(kind, 6.0, beeps, start_s=37.0, holes=[(0.0, 2.0)] * kind.holes, video=True)
    at_s = 0.0 if kind.from_zero else 37.0
    check(data, moved(beeps, at_s), tmp_path / "film.mkv")


@pytest.mark.parametrize("name", ["ts-aac", "ts-mp2", "vob"])
def test_the_clock_of_mpeg_wraps_around(name: str, tmp_path: Path) -> None:
    """After 26.5 hours: no hole, no warning."""
    beeps = _score(6.0, 3)
    start_s = 2**33 / 90_000 - 3.0
    told = check(recording(KINDS[name], 6.0, beeps, start_s=start_s), beeps, tmp_path / "film.ts")
    assert not told.codes


def test_a_clock_that_steps_is_told_with_its_place(tmp_path: Path) -> None:
    """Of many places the first ones."""
    one = recording(TS, 3.0, _score(3.0, 4))
    told = _messages(one * 6, tmp_path / "film.ts")
    assert len(told) == 1
    assert re.search(r"starts again at 3\.0 s, 6\.\d s, 9\.\d s and 2 more places", told[0])


def _messages(data: bytes, path: Path) -> list[str]:
    path.write_bytes(data)
    reader = PcmReader(probe(path))
    while reader.read():
        pass
    reader.close()
    return [note.message for note in reader.notes]


@pytest.mark.parametrize("repeated_s", [0.6, 1.5, 2.6])
def test_what_a_recording_holds_twice_is_heard_once(repeated_s: float, tmp_path: Path) -> None:
    """Recorders that reconnect write the last seconds again, with the same times."""
    beeps = _score(9.0, 5)
    data = recording(TS, 9.0, beeps)
    begin, end = _at(data, 5.0 - repeated_s), _at(data, 5.0)
    told = check(data[:end] + data[begin:], beeps, tmp_path / "film.ts")
    assert told.codes == {"REPEATED_AUDIO"}


def _at(data: bytes, seconds: float) -> int:
    """Where the packet of a time begins."""
    with av.open(io.BytesIO(data)) as container:
        for packet in container.demux(audio=0):
            begin = (container.start_time or 0) / av.time_base
            if packet.pts is not None and packet.pts * packet.time_base - begin >= seconds:
                return cast("int", packet.pos)
    raise AssertionError(seconds)


def test_packets_that_are_missing_are_silence(tmp_path: Path) -> None:
    """What follows them stays where it was."""
    beeps = [one for one in _score(9.0, 6) if not 3.5 < one.at_s < 7.0]
    data = recording(TS, 9.0, beeps)
    begin, end = _at(data, 4.0), _at(data, 6.5)
    told = check(data[:begin] + data[end:], beeps, tmp_path / "film.ts")
    assert told.codes == {"AUDIO_GAP"}


def test_times_that_are_off_for_a_moment_move_nothing() -> None:
    """A recorder writes when a packet came; a broken time stands alone."""
    beeps = _score(8.0, 7)
    rng = dice(1)
    for off in (lambda: rng.uniform(-0.04, 0.04), lambda: 500.0 * (rng.random() < 0.02)):
        sound = Sound()
        frames = _frames(recording(MKV, 8.0, beeps), off)
        out = b"".join([*sound.decode(*frames, zero=0.0), *sound.finish()])
        found = heard(np.frombuffer(out, "<i2"), sound.start_s or 0.0)
        assert not differences(found, beeps)
        assert not sound.joins


def _frames(data: bytes, off: Any) -> tuple[Any, Any]:
    """A container and its stream, whose frames' times are off."""
    container = av.open(io.BytesIO(data))

    class Packet:
        def __init__(self, packet: Any) -> None:
            self._packet = packet
            self.size = packet.size

        def has_sidedata(self, kind: str) -> bool:
            return self._packet.has_sidedata(kind)

        def decode(self) -> list[Any]:
            frames = self._packet.decode()
            for frame in frames:
                frame.pts += round(off() / float(frame.time_base))
            return frames

    class Container:
        format = container.format
        start_time = 0

        def demux(self, _: Any) -> Any:
            return map(Packet, container.demux(audio=0))

    return Container(), None


def test_a_clock_that_drifts_is_followed() -> None:
    """Frames that are longer than their times say, by a thousandth: cut now and then."""
    beeps = _score(30.0, 8)
    drift = iter(np.arange(0, 1e6) * -(1024 / 48_000) * 0.003)
    sound = Sound()
    frames = _frames(recording(MKV, 30.0, beeps), lambda: next(drift))
    out = b"".join([*sound.decode(*frames, zero=0.0), *sound.finish()])
    found = heard(np.frombuffer(out, "<i2"), sound.start_s or 0.0)
    assert not differences(found, [Beep(one.at_s * 0.997, one.pitch) for one in beeps], 0.06)
    assert not sound.joins


# --- estimates


@pytest.mark.parametrize("name", ["adts", "mp3", "ac3", "ts-aac", "vob", "flv", "avi"])
def test_an_estimate_is_no_promise(name: str, tmp_path: Path) -> None:
    """A loud start makes FFmpeg expect more than there is; nothing is called cut off."""
    kind = replace(KINDS[name], options={"write_xing": "0"} if name == "mp3" else {})
    quiet = recording(kind, 2.0, [])
    rng = np.random.default_rng(1)
    beeps = [Beep(at_s, int(rng.integers(36))) for at_s in np.arange(0.1, 11.0, 0.15)]
    data = recording(kind, 12.0, beeps)
    for one in (data, quiet, data[: len(data) // 2] + quiet if name != "avi" else data):
        assert "cut off" not in "".join(_messages(one, tmp_path / f"film{kind.suffix}"))
        assert "TRUNCATED_MEDIA" not in as_bytes(one).codes


@pytest.mark.parametrize("name", ["mp4-in-fragments", "mkv", "wav", "ogg-opus", "flac", "flv"])
def test_a_file_that_is_cut_off_is_called_so(name: str, tmp_path: Path) -> None:
    """Where its own structure says that something is missing."""
    data = recording(KINDS[name], 9.0, _score(9.0, 9))
    told = " ".join(_messages(data[: len(data) * 2 // 3], tmp_path / f"film{KINDS[name].suffix}"))
    assert "cut off" in told


@pytest.mark.parametrize("flags", [0, 2, 4, 6])
def test_a_damaged_page_of_ogg_begins_no_other_file(flags: int, tmp_path: Path) -> None:
    """Whatever its flags say then: what is behind it is heard, and the hole is told."""
    beeps = _score(9.0, 11)
    data = bytearray(recording(KINDS["ogg-opus"], 9.0, beeps))
    page = data.index(b"OggS", len(data) // 3)
    data[page : page + 8] = bytes([1, 2, 3, 4, 5, flags, 7, 8])
    for told in (as_bytes(bytes(data)), as_samples(bytes(data), tmp_path / "film.opus")):
        assert {one.pitch for one in told.beeps} >= {one.pitch for one in beeps if one.at_s > 6}
        assert told.end_s == pytest.approx(9.0, abs=0.1)
        assert told.codes == {"AUDIO_GAP"}


def _from_fragment(mp4: bytes, first: int) -> bytes:
    """The same mp4 without its fragments before a number of them."""
    at, n_fragments, left = 0, 0, b""
    while at < len(mp4):
        size, kind = int.from_bytes(mp4[at : at + 4], "big"), mp4[at + 4 : at + 8]
        n_fragments += kind == b"moof"
        if kind in {b"ftyp", b"moov"} or n_fragments > first:
            left += mp4[at : at + size]
        at += size
    return left


@pytest.mark.parametrize("flags", ["empty_moov+default_base_moof", "dash"])
def test_an_mp4_without_its_first_fragments_begins_late_and_is_whole(
    flags: str, tmp_path: Path
) -> None:
    """Each fragment has its time; what FFmpeg calls the length of such a file is its end."""
    options = {"movflags": flags, "frag_duration": "1000000"}
    whole = media(Media("mp4", "aac", 16_000, "mono", 12.0, options=options))
    path = tmp_path / "film.mp4"
    path.write_bytes(_from_fragment(whole, 4))
    found = probe(path)
    told = as_samples(path.read_bytes(), path)
    assert not told.codes
    assert found.audio_start_s == pytest.approx(4.1, abs=0.1)
    assert found.duration_s == pytest.approx(told.end_s, abs=0.1) == pytest.approx(12.0, abs=0.1)
    assert as_bytes(path.read_bytes()).end_s == pytest.approx(12.0, abs=0.1)
    path.write_bytes(path.read_bytes()[:-2000])
    assert as_samples(path.read_bytes(), path).codes >= {"TRUNCATED_MEDIA"}


def test_audio_that_ends_before_the_picture_is_not_cut_off(tmp_path: Path) -> None:
    """The length of a film is that of its longest stream."""
    beeps = [one for one in _score(8.0, 10) if one.at_s < 3.5]
    for name in ("mkv", "mp4", "ts-aac"):
        data = recording(KINDS[name], 8.0, beeps, holes=[(4.0, 9.0)], video=True)
        assert not as_samples(data, tmp_path / f"film{KINDS[name].suffix}").codes


@pytest.mark.parametrize("name", ["adts", "mp3", "ac3"])
def test_the_length_of_a_raw_stream_is_counted(name: str, tmp_path: Path) -> None:
    """Limits and progress go by it, and FFmpeg's estimate may be five times too long."""
    kind = replace(KINDS[name], options={"write_xing": "0"} if name == "mp3" else {})
    beeps = [Beep(at_s, 7) for at_s in np.arange(6.0, 11.5, 0.15)]
    path = tmp_path / f"film{kind.suffix}"
    path.write_bytes(recording(kind, 12.0, beeps))
    assert probe(path).duration_s == pytest.approx(12.0, abs=0.1)


# --- playlists


@pytest.fixture
def hls(tmp_path: Path) -> Path:
    """Four files of three seconds on one clock, and their playlist."""
    beeps = _score(12.0, 11)
    for number in range(4):
        part = [moved([one], -3.0 * number)[0] for one in beeps]
        part = [one for one in part if 0.0 <= one.at_s < 2.8]
        data = recording(KINDS["ts-mp2"], 3.0, part, start_s=10.0 + 3.0 * number)
        (tmp_path / f"{number}.ts").write_bytes(data)
    lines = "".join(f"#EXTINF:3.0,\n{number}.ts\n" for number in range(4))
    text = f"#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:3\n{lines}#EXT-X-ENDLIST\n"
    (tmp_path / "index.m3u8").write_text(text)
    return tmp_path / "index.m3u8"


def _hls(path: Path) -> tuple[list[Beep], dict[str, str]]:
    reader = PcmReader(probe(Source(path, hls_folder=True)))
    sound = np.frombuffer(b"".join(iter(reader.read, b"")), "<i2")
    reader.close()
    return heard(sound, reader.first_s), {note.code: note.message for note in reader.notes}


def _all_beeps() -> list[Beep]:
    return [one for one in _score(12.0, 11) if one.at_s % 3.0 < 2.8]


@pytest.mark.parametrize("gone", [(), (1,), (0,), (3,), (0, 1), (1, 2)])
def test_files_of_a_playlist_that_are_missing_are_silence(
    gone: tuple[int, ...], hls: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """They are named, and what is there keeps its times; no traceback is printed."""
    for number in gone:
        (hls.parent / f"{number}.ts").unlink()
    found, told = _hls(hls)
    left = [one for one in _all_beeps() if int(one.at_s // 3.0) not in gone]
    assert not differences(found, left)
    assert ("MISSING_SEGMENTS" in told) == bool(gone)
    assert all(f"{number}.ts" in told["MISSING_SEGMENTS"] for number in gone)
    assert "Traceback" not in "".join(capfd.readouterr())


def test_a_playlist_of_nothing_names_what_is_missing(
    hls: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Where none of its files is there, that is the sentence."""
    for number in range(4):
        (hls.parent / f"{number}.ts").unlink()
    with pytest.raises(MediaError, match=r"4 of the playlist's files are not there \(0.ts, 1.ts"):
        probe(Source(hls, hls_folder=True))
    assert "Traceback" not in "".join(capfd.readouterr())


def test_a_playlist_of_files_outside_prints_no_traceback(
    hls: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is refused as a whole, wherever in it they stand."""
    text = hls.read_text().replace("1.ts", "/etc/a.ts").replace("2.ts", "../../b.ts")
    hls.write_text(text)
    with pytest.raises(MediaError, match="only those are read"):
        _hls(hls)
    assert "Traceback" not in "".join(capfd.readouterr())


@pytest.mark.parametrize("method", ["AES-128", "SAMPLE-AES"])
def test_an_encrypted_playlist_is_called_so(method: str, hls: Path) -> None:
    """Its key is not asked for."""
    key = f'#EXT-X-KEY:METHOD={method},URI="key.bin"\n#EXTINF'
    hls.write_text(hls.read_text().replace("#EXTINF", key, 1))
    with pytest.raises(MediaError, match="encrypted"):
        probe(Source(hls, hls_folder=True))
    hls.write_text(hls.read_text().replace(f"METHOD={method}", "METHOD=NONE"))
    assert not differences(_hls(hls)[0], _all_beeps())


# --- encrypted files


@pytest.mark.parametrize("name", ["mp4", "mp4-in-fragments"])
def test_an_encrypted_track_is_called_so(name: str, tmp_path: Path) -> None:
    """By its sample entry; what a decoder makes of it would be noise."""
    data = recording(KINDS[name], 2.0, [])
    data = data.replace(b"mp4a", b"enca", 2)
    path = tmp_path / "film.mp4"
    path.write_bytes(data)
    with pytest.raises(MediaError, match="encrypted"):
        probe(path)
    with pytest.raises(InvalidAudioError, match="encrypted"):
        as_bytes(data)


def _scrambled(stream: bytes) -> bytes:
    """A transport stream as broadcasters send it to who has paid: its tables stay clear."""
    made = bytearray(stream)
    for at in range(0, len(made), PACKET):
        if (made[at + 1] & 0x1F) << 8 | made[at + 2] != 256:
            continue
        made[at + 3] |= 0x80
        begin = at + 4 if not made[at + 3] & 0x20 else at + 5 + made[at + 4]
        for place in range(begin, at + PACKET):
            made[place] ^= 0x5B
    return bytes(made)


CENC = {
    "encryption_scheme": "cenc-aes-ctr",
    "encryption_key": "76a6c65c5ea762046bd749a2e632ccbb",
    "encryption_kid": "a7e61c373e219033c21091fa607bf3b8",
}


@pytest.mark.parametrize("name", ["mp4", "ts-aac"])
def test_what_only_a_key_opens_is_called_encrypted(name: str, tmp_path: Path) -> None:
    """Not damaged: its packets say so, or their headers do."""
    kind = replace(KINDS[name], options=CENC if name == "mp4" else {})
    data = recording(kind, 3.0, _score(3.0, 30))
    data = _scrambled(data) if name == "ts-aac" else data
    with pytest.raises(InvalidAudioError, match="encrypted"):
        as_bytes(data)
    with pytest.raises(MediaError, match="encrypted"):
        as_samples(data, tmp_path / "film.bin")


# --- joined files


def test_joined_files_are_found_by_their_structure() -> None:
    """Where one ends and the next begins, to the byte; one alone is one."""
    for name in ("ogg-opus", "wav", "mp4", "mkv", "flv", "flac"):
        one = recording(KINDS[name], 2.0, [])
        assert [part[:2] for part in parts(io.BytesIO(one), len(one))] == [(0, len(one))]
        three = one * 3
        ends = [part[1] for part in parts(io.BytesIO(three), len(three))]
        assert ends == [len(one), 2 * len(one), 3 * len(one)], name


def test_a_part_of_joined_files_is_read_from_its_place(tmp_path: Path) -> None:
    """Times of the whole: a start in the second file, an end in it too."""
    beeps, more = _score(5.0, 12), _score(5.0, 13)
    path = tmp_path / "film.mp4"
    path.write_bytes(recording(KINDS["mp4"], 5.0, beeps) + recording(KINDS["mp4"], 5.0, more))
    media = probe(path)
    assert media.duration_s == pytest.approx(10.0, abs=0.1)
    reader = PcmReader(media, start_s=6.0, end_s=9.0)
    sound = np.frombuffer(b"".join(iter(reader.read, b"")), "<i2")
    reader.close()
    assert len(sound) == 3 * 16_000
    wanted = [one for one in moved(more, 5.02) if 6.0 < one.at_s < 8.95]
    assert not differences(heard(sound, reader.first_s), wanted, 0.06)


@pytest.mark.parametrize(
    ("first", "second"), [("ts-aac", "ts-mp2"), ("ts-mp2", "ts-aac"), ("ts-mp2", "ts-opus")]
)
def test_a_codec_that_changes_is_followed(first: str, second: str, tmp_path: Path) -> None:
    """Transport streams of two recorders, one behind the other, and back again."""
    beeps, more, last = _score(4.0, 14), _score(4.0, 15), _score(4.0, 16)
    one, two = recording(KINDS[first], 4.0, beeps), recording(KINDS[second], 4.0, more)
    three = recording(KINDS[first], 4.0, last)
    end_s, later_s = as_bytes(one).end_s, as_bytes(two).end_s
    wanted = [*beeps, *moved(more, end_s), *moved(last, end_s + later_s)]
    told = check(one + two + three, wanted, tmp_path / "film.ts")
    assert told.codes == {"JOINED_MEDIA"}


@pytest.mark.parametrize("pictures", [(True, False), (False, True), (True, False, True)])
def test_a_stream_that_goes_on_under_another_number_is_followed(
    pictures: tuple[bool, ...], tmp_path: Path
) -> None:
    """With pictures the sound has another place in a transport stream than without."""
    data, wanted, end_s = b"", list[Beep](), 0.0
    for number, has_picture in enumerate(pictures):
        beeps = _score(4.0, 17 + number)
        one = recording(TS, 4.0, beeps, video=has_picture)
        data, wanted = data + one, [*wanted, *moved(beeps, end_s)]
        end_s += as_bytes(one).end_s
    told = check(data, wanted, tmp_path / "film.ts")
    assert told.codes == {"JOINED_MEDIA"}
