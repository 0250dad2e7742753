"""Where media files begin in other bytes."""

import random

import pytest

from voxroute_serving.audio.signatures import next_file

STARTS = (
    b"RIFF\x10\x00\x00\x00WAVE",
    b"fLaC\x00\x00\x00\x22",
    b"\x00\x00\x00\x18ftypisom",
    b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01\x42\x82\x84webm",
    b"#!AMR\n",
    b"\xff\xfb\x90\x64" + bytes(32) + b"Info\x00\x00\x00\x0f",
)


@pytest.mark.parametrize("n_bytes", [2_000, 400_001])
@pytest.mark.parametrize("start", STARTS)
def test_a_file_is_found_wherever_it_begins(start: bytes, n_bytes: int) -> None:
    """In little and in much, at even places and at odd ones, the first of several."""
    rest = bytes(random.Random(0).choices(range(128), k=n_bytes))  # noqa: S311 - no secret
    for at in (0, 1, 502, 1_003, n_bytes - 900, n_bytes - 901):
        data = bytearray(rest)
        data[at : at + len(start)] = start
        data[-len(start) :] = start
        assert next_file(bytes(data), 0) == at
        assert next_file(bytes(data), at + 1) == n_bytes - len(start)
