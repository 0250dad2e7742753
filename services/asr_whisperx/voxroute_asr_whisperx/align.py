# pyright: basic
"""Word times by WhisperX's forced alignment of a known text with a wav2vec2 model."""

import gc
import threading
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from voxroute_asr_whisperx.memory import free_memory
from voxroute_asr_whisperx.models import fetched, in_hub_cache, is_hub_id
from voxroute_serving.asr.engine import Word
from voxroute_serving.asr.whisper.family import whisper_code
from voxroute_serving.audio.samples import SAMPLE_RATE, Samples
from voxroute_serving.device.failures import engine_errors, load_errors
from voxroute_serving.errors import UnsupportedError

MAX_ALIGNERS = 2  # in memory at once; a large wav2vec2 model takes 1.3 GB
MIN_SAMPLES = 400  # the receptive field of wav2vec2's feature encoder, 25 ms
ALIGNER_FILES = ("*.json", "*.safetensors")

# WhisperX 3.8.6's own choices (whisperx.alignment.DEFAULT_ALIGN_MODELS_TORCH and _HF), kept here
# because importing it costs seconds; a test compares the two. torchaudio's pipelines are given by
# the file that they download.
TORCHAUDIO_FILES: Mapping[str, str] = {
    "en": "wav2vec2_fairseq_base_ls960_asr_ls960.pth",
    "fr": "wav2vec2_voxpopuli_base_10k_asr_fr.pt",
    "de": "wav2vec2_voxpopuli_base_10k_asr_de.pt",
    "es": "wav2vec2_voxpopuli_base_10k_asr_es.pt",
    "it": "wav2vec2_voxpopuli_base_10k_asr_it.pt",
}
HUB_ALIGNERS: Mapping[str, str] = {
    "ja": "jonatasgrosman/wav2vec2-large-xlsr-53-japanese",
    "zh": "jonatasgrosman/wav2vec2-large-xlsr-53-chinese-zh-cn",
    "nl": "jonatasgrosman/wav2vec2-large-xlsr-53-dutch",
    "uk": "Yehor/wav2vec2-xls-r-300m-uk-with-small-lm",
    "pt": "jonatasgrosman/wav2vec2-large-xlsr-53-portuguese",
    "ar": "jonatasgrosman/wav2vec2-large-xlsr-53-arabic",
    "cs": "comodoro/wav2vec2-xls-r-300m-cs-250",
    "ru": "jonatasgrosman/wav2vec2-large-xlsr-53-russian",
    "pl": "jonatasgrosman/wav2vec2-large-xlsr-53-polish",
    "hu": "jonatasgrosman/wav2vec2-large-xlsr-53-hungarian",
    "fi": "jonatasgrosman/wav2vec2-large-xlsr-53-finnish",
    "fa": "jonatasgrosman/wav2vec2-large-xlsr-53-persian",
    "el": "jonatasgrosman/wav2vec2-large-xlsr-53-greek",
    "tr": "mpoyraz/wav2vec2-xls-r-300m-cv7-turkish",
    "da": "saattrupdan/wav2vec2-xls-r-300m-ftspeech",
    "he": "imvladikon/wav2vec2-xls-r-300m-hebrew",
    "vi": "nguyenvulebinh/wav2vec2-base-vi-vlsp2020",
    "ko": "kresnik/wav2vec2-large-xlsr-korean",
    "ur": "kingabzpro/wav2vec2-large-xls-r-300m-Urdu",
    "te": "anuragshas/wav2vec2-large-xlsr-53-telugu",
    "hi": "theainerd/Wav2Vec2-large-xlsr-hindi",
    "ca": "softcatala/wav2vec2-large-xlsr-catala",
    "ml": "gvs/wav2vec2-large-xlsr-malayalam",
    "no": "NbAiLab/nb-wav2vec2-1b-bokmaal-v2",
    "nn": "NbAiLab/nb-wav2vec2-1b-nynorsk",
    "sk": "comodoro/wav2vec2-xls-r-300m-sk-cv8",
    "sl": "anton-l/wav2vec2-large-xlsr-53-slovenian",
    "hr": "classla/wav2vec2-xls-r-parlaspeech-hr",
    "ro": "gigant/romanian-wav2vec2",
    "eu": "stefan-it/wav2vec2-large-xlsr-53-basque",
    "gl": "ifrz/wav2vec2-large-xlsr-galician",
    "ka": "xsway/wav2vec2-large-xlsr-georgian",
    "lv": "jimregan/wav2vec2-large-xlsr-latvian-cv",
    "tl": "Khalsuu/filipino-wav2vec2-l-xls-r-300m-official",
    "sv": "KBLab/wav2vec2-large-voxrex-swedish",
    "id": "cahya/wav2vec2-large-xlsr-indonesian",
}


class _WholeText:
    """A sentence splitter that does not split.

    whisperx.align asks NLTK for a trained splitter, which NLTK would download; the text of a
    segment is to stay in one piece anyway.
    """

    def span_tokenize(self, text: str) -> Iterator[tuple[int, int]]:
        yield 0, len(text)


class Aligners:
    """The alignment models of a service, at most MAX_ALIGNERS in memory.

    `configured` gives languages (BCP-47) a directory or hub id; other languages take WhisperX's
    own model where it is on this machine, or with `downloads` wherever it is. Everything may be
    called from any thread; texts are aligned one at a time.
    """

    def __init__(
        self,
        *,
        device: str,
        configured: Mapping[str, str],
        downloads: bool,
        offline: bool,
        token: str | None,
        cache_dir: Path,
    ) -> None:
        self._device = device
        self._configured = dict(configured)
        self._downloads = downloads and not offline
        self._offline = offline
        self._token = token
        self._torchaudio_dir = cache_dir / "alignment"
        self._loaded: OrderedDict[str, tuple[Any, dict[str, Any]]] = OrderedDict()
        self._lock = threading.Lock()  # one at a time: the models of the device come and go

    def languages(self) -> tuple[str, ...]:
        """Languages with an aligner that is here, or that may be downloaded; BCP-47, sorted."""
        known = {*self._configured, *TORCHAUDIO_FILES, *HUB_ALIGNERS}
        return tuple(sorted(language for language in known if self.has(language)))

    def has(self, language: str) -> bool:
        """Whether a language can be aligned."""
        language = self._key(language)
        if language in self._configured:
            model = self._configured[language]
            if Path(model).is_dir():
                return True
            return is_hub_id(model) and (not self._offline or in_hub_cache(model))
        if language in TORCHAUDIO_FILES:
            path = self._torchaudio_dir / TORCHAUDIO_FILES[language]
            return self._downloads or path.is_file()
        if language in HUB_ALIGNERS:
            return self._downloads or in_hub_cache(HUB_ALIGNERS[language])
        return False

    def words(
        self, samples: Samples, text: str, language: str, *, start_s: float, end_s: float
    ) -> tuple[Word, ...]:
        """The words of a text that is spoken between two times of the samples.

        Times are seconds from the start of the samples. The words are those of the text, split at
        blanks (Chinese and Japanese: at characters); none where the audio is too short for the
        text. Raises UnsupportedError, ModelUnavailableError, OutOfMemoryError, EngineError.
        """
        text = " ".join(text.split())
        end_s = min(end_s, len(samples) / SAMPLE_RATE)
        if not text or (end_s - start_s) * SAMPLE_RATE < MIN_SAMPLES:
            return ()
        with self._lock:
            return self._words(samples, text, language, start_s, end_s)

    def _words(
        self, samples: Samples, text: str, language: str, start_s: float, end_s: float
    ) -> tuple[Word, ...]:
        model, metadata = self._aligner(language)
        import whisperx.alignment  # noqa: PLC0415 - takes seconds; only where words are wanted

        whisperx.alignment.nltk_load = lambda _resource: _WholeText()
        with engine_errors("the aligner beside the recogniser"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pandas' and torch's advice to whisperx
            result = whisperx.alignment.align(
                [{"text": text, "start": start_s, "end": end_s}],
                model,
                metadata,
                samples,
                self._device,
            )
        return _words_of(result["word_segments"], text, start_s, end_s)

    def close(self) -> None:
        """Frees the memory of the device, once another model's texts are aligned."""
        with self._lock:
            self._loaded.clear()
            gc.collect()
            free_memory(self._device)

    def _key(self, language: str) -> str:
        return language if language in self._configured else whisper_code(language)

    def _aligner(self, language: str) -> tuple[Any, dict[str, Any]]:
        key = self._key(language)
        if not self.has(key):
            raise UnsupportedError(
                f"this service has no alignment model for language {language!r}; it has them for"
                f" {', '.join(self.languages()) or 'none'} (--align-models adds one)"
            )
        source = self._configured.get(key) or HUB_ALIGNERS.get(key) or key
        if source not in self._loaded:
            while len(self._loaded) >= MAX_ALIGNERS:
                self._loaded.popitem(last=False)
                gc.collect()
                free_memory(self._device)
            self._loaded[source] = self._load(key)
        self._loaded.move_to_end(source)
        model, metadata = self._loaded[source]
        # one multilingual model serves several languages; whisperx splits words by this one
        return model, {**metadata, "language": whisper_code(key)}

    def _load(self, key: str) -> tuple[Any, dict[str, Any]]:
        """The model and whisperx's metadata for it, on the device."""
        with warnings.catch_warnings(action="ignore"):
            import whisperx.alignment  # noqa: PLC0415 - takes seconds; only where words are wanted

        name, model_dir = None, str(self._torchaudio_dir)
        hub_name = self._configured.get(key) or HUB_ALIGNERS.get(key)
        if hub_name is not None:
            # a directory, so that transformers itself has no reason to ask the hub
            directory = fetched(
                hub_name,
                ALIGNER_FILES,
                offline=self._offline or not (self._downloads or key in self._configured),
                token=self._token,
            )
            name, model_dir = str(directory), None
        else:
            self._torchaudio_dir.mkdir(parents=True, exist_ok=True)
        what = f"the alignment model {hub_name or TORCHAUDIO_FILES[key]} for language {key!r}"
        reason = (
            "it must be a Wav2Vec2ForCTC model with its processor (config.json, weights,"
            " vocab.json, preprocessor_config.json)"
        )
        with load_errors(what, reason), warnings.catch_warnings(action="ignore"):
            model, metadata = whisperx.alignment.load_align_model(
                whisper_code(key), self._device, model_name=name, model_dir=model_dir
            )
        model.eval()
        return model, metadata


def _words_of(
    words: Sequence[Mapping[str, Any]], text: str, start_s: float, end_s: float
) -> tuple[Word, ...]:
    """Words of whisperx, where each has a time and together they are the text; else none."""
    if "".join(word["word"] for word in words) != text.replace(" ", ""):
        return ()
    if any("start" not in word or "end" not in word for word in words):
        return ()
    found: list[Word] = []
    floor_s = start_s
    for word in words:
        begin_s = min(max(float(word["start"]), floor_s), end_s)
        finish_s = min(max(float(word["end"]), begin_s), end_s)
        score = word.get("score")
        confidence = None if score is None else min(1.0, max(0.0, float(score)))
        found.append(Word(word["word"], begin_s, finish_s, confidence))
        floor_s = begin_s
    return tuple(found)
