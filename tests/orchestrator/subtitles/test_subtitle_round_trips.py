"""What is read, written and read again is the same, for each pair of formats that can hold it."""

import itertools
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from voxroute_orchestrator.subtitles import formats as subtitles
from voxroute_orchestrator.subtitles.cues import Cue
from voxroute_orchestrator.subtitles.placements import canonical, keypad, of_keypad
from voxroute_orchestrator.subtitles.turns import turns_of

KINDS = tuple(subtitles.FORMATS)
PLACES = [of_keypad(number) for number in range(1, 10)]
WORDS = [
    "Where", "is", "the", "key?", "No.", "42", "1984", "3", "नमस्ते", "क्या?", "שלום", "你好", "a & b",
    "x < y", "<i>", "</i>", "<b>bold</b>", "<3", "&amp;", "&nbsp;", "&#39;", "AT&T", "{b}",
    "{\\an8}", "C:\\New", "C:\\new\\hut", "\\N", "♪ la ♪", "[door]", "NOTE", "STYLE", "WEBVTT",
    "REGION x", "Dialogue:", "...", "—", "it's", '"quoted"', "50%", "10:30", "e\u0301",
    "<v Asha>", "<br>", "]]>",
]  # fmt: skip


@st.composite
def texts(draw: st.DrawFn) -> str:
    """One to three lines, as the turns of speakers or as one text."""
    line = st.lists(st.sampled_from(WORDS), min_size=1, max_size=5).map(" ".join)
    lines = draw(st.lists(line, min_size=1, max_size=3))
    mark = draw(st.sampled_from(["", "", "- ", "-", "– ", "ASHA: "]))  # noqa: RUF001
    return "\n".join(mark + line for line in lines)


@st.composite
def files(draw: st.DrawFn, positions: st.SearchStrategy[str]) -> list[Cue]:
    """Cues in order, times in hundredths of a second, no two with one text."""
    cues: list[Cue] = []
    start = draw(st.integers(0, 4_000_000)) * 10
    for number, text in enumerate(draw(st.lists(texts(), min_size=1, max_size=5))):
        start += draw(st.integers(1, 300)) * 10
        length = draw(st.integers(1, 700)) * 10
        cues.append(
            Cue(
                start,
                start + length,
                f"{text} {number}x",
                draw(st.sampled_from(["", "Asha & Co", "Ravi <1>"])),
                draw(positions),
                draw(st.booleans()),
            )
        )
    return cues


PERCENT = st.integers(15, 85).map(lambda number: f"{number}%")
EXACT = st.one_of(
    st.sampled_from(PLACES),
    st.builds(
        lambda line, side, at, align: canonical(f"line:{line}{side} position:{at} align:{align}"),
        PERCENT,
        st.sampled_from(["", ",center", ",end"]),
        PERCENT,
        st.sampled_from(["left", "center", "right"]),
    ),
)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder for the module's files."""
    path = Path(tempfile.mkdtemp(prefix="voxroute-subtitles-"))
    yield path
    shutil.rmtree(path)


def through(folder: Path, cues: list[Cue], kind: str) -> list[Cue]:
    """The cues, written in a format and read again; nothing is to be mended."""
    path = folder / f"film.{kind}"
    path.write_text(subtitles.FORMATS[kind](cues, "hi"), encoding="utf-8")
    return subtitles.read(path, tell=pytest.fail)


def held(cue: Cue, kinds: tuple[str, ...]) -> Cue:
    """What is left of a cue that has gone through formats which do not hold all of it."""
    if "srt" in kinds:
        cue = replace(cue, speaker="", position=of_keypad(keypad(cue.position)))
    if "ass" in kinds:
        cue = replace(cue, speaker=cue.speaker.replace(",", ";"))
    return cue


SLOWER = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
LETTERS = Cue(0, 1000, " ".join(WORDS) + "\n42", italic=True, position="line:0")


@pytest.mark.parametrize("kinds", list(itertools.product(KINDS, repeat=2)), ids="-".join)
@settings(max_examples=12, deadline=None, suppress_health_check=SLOWER)
@given(cues=files(st.sampled_from(PLACES)))
@example(cues=[LETTERS])
def test_texts_times_turns_places_and_italics_pass_through_every_pair_of_formats(
    folder: Path, kinds: tuple[str, str], cues: list[Cue]
) -> None:
    """Speakers too, but for SubRip, which has no place for them."""
    once = through(folder, cues, kinds[0])
    twice = through(folder, once, kinds[1])
    assert once == [held(cue, kinds[:1]) for cue in cues]
    assert twice == [held(cue, kinds) for cue in cues]
    assert [turns_of(cue.text) for cue in twice] == [turns_of(cue.text) for cue in cues]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "line",
    [
        "00:00:03,000 --> 00:00:04,000", "00:00:03,000 -> never", "3:04 \u2192 3:05",
        "00:00:03.000 -", "00:00:03,000",
    ],
)  # fmt: skip
def test_a_line_of_text_that_looks_like_times_stays_text(
    folder: Path, line: str, kind: str
) -> None:
    """Or it would begin a cue of its own, and be lost to the one that it stands in."""
    cues = [Cue(1000, 2000, f"Meet at\n{line}\nsharp."), Cue(3000, 4000, line)]
    found = [
        replace(cue, text=cue.text.replace("\u2060", "")) for cue in through(folder, cues, kind)
    ]
    arrow = "->" if kind == "srt" else "-->"
    assert found == [replace(cue, text=cue.text.replace("-->", arrow)) for cue in cues]


@pytest.mark.parametrize(
    "kinds", list(itertools.product(["vtt", "ass", "ttml", "json"], repeat=2)), ids="-".join
)
@settings(max_examples=12, deadline=None, suppress_health_check=SLOWER)
@given(cues=files(EXACT))
def test_points_of_the_picture_pass_through_the_formats_that_know_them(
    folder: Path, kinds: tuple[str, str], cues: list[Cue]
) -> None:
    """Every point away from the edges, to a hundredth of a percent."""
    assert through(folder, through(folder, cues, kinds[0]), kinds[1]) == cues


@pytest.mark.slow
@settings(max_examples=700, deadline=None, suppress_health_check=SLOWER)
@given(
    cues=files(EXACT),
    places=files(st.sampled_from(PLACES)),
    kinds=st.tuples(*[st.sampled_from(KINDS)] * 3),
)
def test_many_files_pass_through_three_formats(
    folder: Path, cues: list[Cue], places: list[Cue], kinds: tuple[str, str, str]
) -> None:
    """As above, more of them."""
    given_cues = places if "srt" in kinds else cues
    read = given_cues
    for kind in kinds:
        read = through(folder, read, kind)
    assert read == [held(cue, kinds) for cue in given_cues]


@settings(max_examples=20, deadline=None, suppress_health_check=SLOWER)
@given(cues=files(EXACT))
def test_a_point_becomes_the_nearest_of_nine_places_in_subrip(
    folder: Path, cues: list[Cue]
) -> None:
    """And the place is the same whichever format the file has gone through before."""
    direct = through(folder, cues, "srt")
    for kind in ("vtt", "ass", "ttml", "json"):
        assert through(folder, through(folder, cues, kind), "srt") == direct
