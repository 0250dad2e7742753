"""What this engine says of itself; see voxroute_serving.manifest."""

from voxroute_serving.manifest import Engine

# IndicTrans2 where the pair allows it, NLLB-200 for the rest
_MODELS = (
    "ai4bharat/indictrans2-indic-en-dist-200M",
    "ai4bharat/indictrans2-en-indic-dist-200M",
    "ai4bharat/indictrans2-indic-indic-dist-320M",
    "facebook/nllb-200-distilled-600M",
)

ENGINE = Engine(
    name="translate",
    kind="translate",
    module="voxroute_translate",
    devices=("cuda", "mps", "cpu"),
    converters={"ctranslate2": "voxroute_translate.engine:converted"},
    default_models=dict.fromkeys(("cuda", "mps", "cpu"), _MODELS),
    bundled_model="translate-tiny-hi-en",
)
