"""What this engine says of itself; see voxroute_serving.manifest."""

from voxroute_serving.manifest import Engine

ENGINE = Engine(
    name="mlx",
    kind="asr",
    module="voxroute_asr_mlx",
    devices=("mps",),
    on_request=("cpu",),
    libraries=("mlx", "mlx_whisper"),
    converters={"mlx": "voxroute_asr_mlx.engine:mlx_directory"},
    hub_ids={
        "tiny": "mlx-community/whisper-tiny-mlx",
        "tiny.en": "mlx-community/whisper-tiny.en-mlx",
        "base": "mlx-community/whisper-base-mlx",
        "base.en": "mlx-community/whisper-base.en-mlx",
        "small": "mlx-community/whisper-small-mlx",
        "small.en": "mlx-community/whisper-small.en-mlx",
        "medium": "mlx-community/whisper-medium-mlx",
        "medium.en": "mlx-community/whisper-medium.en-mlx",
        "large-v1": "mlx-community/whisper-large-v1-mlx",
        "large-v2": "mlx-community/whisper-large-v2-mlx",
        "large-v3": "mlx-community/whisper-large-v3-mlx",
        "large-v3-turbo": "mlx-community/whisper-large-v3-turbo",
        "distil-large-v3": "mlx-community/distil-whisper-large-v3",
    },
    default_models={"cpu": ("small",), "cuda": ("large-v3",), "mps": ("large-v3-turbo",)},
    bundled_model="asr-tiny-hi-en",
)
