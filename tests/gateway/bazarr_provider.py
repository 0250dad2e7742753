"""Runs Bazarr's whisper provider from its source against a gateway; prints what it takes, as JSON.

python bazarr_provider.py CHECKOUT URL FILM, with what the provider imports installed.
"""

import importlib
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

checkout, url, film = sys.argv[1:]
sys.path[:0] = [f"{checkout}/custom_libs", f"{checkout}/libs"]


def load(module: str) -> Any:
    """The module, which is none of this project's."""
    return importlib.import_module(module)


Language = load("subzero.language").Language
Movie = load("subliminal.video").Movie
Provider = load("subliminal_patch.providers.whisperai").WhisperAIProvider


def download(wanted: str, spoken: set[str]) -> dict[str, Any]:
    """The subtitle in a language, of the film with audio in those that are known."""
    provider = Provider(
        endpoint=url,
        response=5,
        timeout=3600,
        ffmpeg_path=load("imageio_ffmpeg").get_ffmpeg_exe(),
        pass_video_name=True,
        loglevel="WARNING",
    )
    provider.initialize()
    movie = Movie(film, "Film")
    movie.original_name = movie.original_path = film
    movie.audio_languages = spoken
    (subtitle,) = provider.list_subtitles(movie, {Language(wanted)})
    provider.download_subtitle(subtitle)
    return {
        "task": subtitle.task,
        "audio_language": subtitle.audio_language,
        "valid": subtitle.is_valid(),
        "content": subtitle.content.decode(),
    }


found = {
    wanted: [download(wanted, spoken) for spoken in ({"hin"}, set[str]())]
    for wanted in ("hin", "eng")
}
with ThreadPoolExecutor(4) as pool:
    found["at_once"] = list(pool.map(lambda _: download("hin", {"hin"}), range(4)))
print(json.dumps(found))  # noqa: T201 - what it is for
