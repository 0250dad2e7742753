"""What this engine says of itself; see voxroute_serving.manifest."""

from voxroute_serving.manifest import Engine

ENGINE = Engine(
    name="whisperx",
    kind="asr",
    module="voxroute_asr_whisperx",
    devices=("cuda", "cpu"),
    flags=frozenset({"--align-models", "--align-downloads", "--diarization-model"}),
    converters={"ctranslate2": "voxroute_asr_whisperx.engine:ctranslate2_directory"},
    # the table of faster-whisper 1.2.1, kept here because importing that package costs seconds; a
    # test compares the two
    hub_ids={
        "tiny": "Systran/faster-whisper-tiny",
        "tiny.en": "Systran/faster-whisper-tiny.en",
        "base": "Systran/faster-whisper-base",
        "base.en": "Systran/faster-whisper-base.en",
        "small": "Systran/faster-whisper-small",
        "small.en": "Systran/faster-whisper-small.en",
        "medium": "Systran/faster-whisper-medium",
        "medium.en": "Systran/faster-whisper-medium.en",
        "large-v1": "Systran/faster-whisper-large-v1",
        "large-v2": "Systran/faster-whisper-large-v2",
        "large-v3": "Systran/faster-whisper-large-v3",
        "large-v3-turbo": "mobiuslabsgmbh/faster-whisper-large-v3-turbo",
        "distil-small.en": "Systran/faster-distil-whisper-small.en",
        "distil-medium.en": "Systran/faster-distil-whisper-medium.en",
        "distil-large-v2": "Systran/faster-distil-whisper-large-v2",
        "distil-large-v3": "Systran/faster-distil-whisper-large-v3",
        "distil-large-v3.5": "distil-whisper/distil-large-v3.5-ct2",
    },
    default_models={"cpu": ("small",), "cuda": ("large-v3",)},
    bundled_model="asr-tiny-hi-en",
)
