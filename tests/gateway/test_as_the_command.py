"""What the gateway answers is what `voxroute` writes into its files, byte for byte."""

from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import pytest

from tests import forking
from tests.e2e import processes
from tests.gateway.conftest import Gateway, gateway


def _voxroute(*arguments: str | Path) -> None:
    done = forking.run("voxroute_orchestrator", *map(str, arguments))
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def files(
    asr: processes.Service,
    translation: processes.Service,
    clip: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, bytes]:
    """The subtitles of `voxroute run`, by the ends of their names: "hi.srt" and so on."""
    asr.wait_until_serving()
    folder = tmp_path_factory.mktemp("run")
    _voxroute(
        "run", clip, "-s", "hi", "-t", "en", "--format", "srt,vtt", "-o", folder,
        "--asr-endpoint", asr.target, "--translate-endpoint", translation.target,
    )  # fmt: skip
    return {
        path.name.removeprefix(f"{clip.stem}."): path.read_bytes()
        for path in folder.rglob(f"{clip.stem}.*.[sv]?t")
    }


@pytest.fixture(scope="module")
def quiet(asr: processes.Service, translation: processes.Service) -> Iterator[Gateway]:
    """A gateway that sends nothing ahead of its answers, however long they take."""
    asr.wait_until_serving()
    endpoints = ("--asr-endpoint", asr.target, "--translate-endpoint", translation.target)
    with gateway(*endpoints, "--heartbeat-s", "600") as running:
        yield running


ROUTES = {
    "/v1/audio/transcriptions": ("file", "hi"),
    "/v1/audio/translations": ("file", "en"),
    "/asr": ("audio_file", "hi"),
    "/asr?task=translate": ("audio_file", "en"),
}
"""With the name of the part that holds the recording, and the language of the subtitles."""


@pytest.mark.parametrize(
    ("form", "route"),
    [
        ("srt", "/v1/audio/transcriptions"),
        ("vtt", "/asr?task=translate"),
        # the bundled model decodes the clip each time
        pytest.param("srt", "/v1/audio/translations", marks=pytest.mark.slow),
        pytest.param("srt", "/asr", marks=pytest.mark.slow),
        pytest.param("srt", "/asr?task=translate", marks=pytest.mark.slow),
        pytest.param("vtt", "/v1/audio/transcriptions", marks=pytest.mark.slow),
        pytest.param("vtt", "/v1/audio/translations", marks=pytest.mark.slow),
        pytest.param("vtt", "/asr", marks=pytest.mark.slow),
    ],
)
def test_subtitles_are_those_of_the_command(
    quiet: Gateway, files: dict[str, bytes], clip: Path, route: str, form: str
) -> None:
    """Of every interface, as spoken and translated."""
    part, language = ROUTES[route]
    answer = httpx.post(
        httpx.URL(f"{quiet.url}{route}").copy_merge_params({"language": "hi", "output": form}),
        data={"language": "hi", "response_format": form},
        files={part: ("a.mp4", clip.read_bytes())},
        timeout=240,
    )
    assert answer.content == files[f"{language}.{form}"]


CUES = [
    "मैं घर जाता हूँ।",
    "- मैं घर जाता हूँ।\n- मीरा, चाबी कहाँ है?",
    "मीरा, चाबी\nकहाँ है?",
    "मैं घर जाता हूँ। मीरा, चाबी कहाँ है? मैं घर जाता हूँ।",
]


@pytest.fixture(scope="module")
def translated(
    translation: processes.Service, tmp_path_factory: pytest.TempPathFactory
) -> list[str]:
    """The texts of those cues as `voxroute translate` has them."""
    folder = tmp_path_factory.mktemp("translate")
    film = folder / "film.hi.srt"
    film.write_text(
        "\n".join(
            f"{n}\n00:00:{n * 10},000 --> 00:00:{n * 10 + 9},000\n{text}\n"
            for n, text in enumerate(CUES, 1)
        ),
        encoding="utf-8",
    )
    _voxroute(
        "translate", film, "-s", "hi", "-t", "en", "-o", folder / "out",
        "--translate-endpoint", translation.target,
    )  # fmt: skip
    (path,) = (folder / "out").rglob("*.en.srt")
    blocks = path.read_text(encoding="utf-8").strip().split("\n\n")
    return [block.split("\n", 2)[2] for block in blocks]


def test_a_film_for_lingarr_is_translated_as_by_the_command(
    quiet: Gateway, translated: list[str]
) -> None:
    """With its turns and its lines."""
    lines = [{"position": n, "line": text} for n, text in enumerate(CUES)]
    answer = httpx.post(
        f"{quiet.url}/api/translate/content",
        json={"sourceLanguage": "hi", "targetLanguage": "en", "lines": lines},
        timeout=60,
    )
    assert [one["line"] for one in answer.json()] == translated


def test_a_cue_of_subtitle_edit_is_translated_as_by_the_command(
    quiet: Gateway, translated: list[str]
) -> None:
    """Where nothing before it matters, as with the first, and with cues of several lines."""
    texts = [text.replace("\n", "<br />") for text in CUES]
    answer = httpx.post(
        f"{quiet.url}/translate", json={"q": texts, "source": "hi", "target": "en"}, timeout=60
    )
    found = [text.replace("<br />", "\n") for text in answer.json()["translatedText"]]
    assert found[:3] == translated[:3]
