"""The settings of the translation service."""

from typing import Literal

from pydantic import Field

from voxroute_serving.process.settings import (
    ListenAddresses,
    MetricsAddress,
    ServiceSettings,
    StringList,
    listen_on,
    metrics_on,
)
from voxroute_translate import ENGINE
from voxroute_translate.registry import PERMISSIVE_MODEL

Runtime = Literal["auto", "ctranslate2", "torch"]


class TranslateSettings(ServiceSettings):
    """What the translation service takes."""

    listen: ListenAddresses = listen_on(50053)
    models: StringList = Field(
        default=list(ENGINE.default_models["cpu"]),
        min_length=1,
        description="models in the order of preference: hub ids (behind an @ a revision) or local"
        " directories in M2M100, NLLB, Marian or IndicTrans2 format; the first that translates a"
        " pair answers it. NLLB-200 may not be used commercially (CC-BY-NC-4.0);"
        f" {PERMISSIVE_MODEL} (MIT) can take its place",
    )
    runtime: Runtime = Field(
        default="auto",
        description="the library that runs the models; auto takes ctranslate2 on cpu and cuda, and"
        " torch on mps, which ctranslate2 does not know",
    )
    max_loaded_models: int = Field(
        default=4,
        ge=1,
        description="models in the device's memory at once, loaded at the start in the order of"
        " preference. Too low reloads models again and again, too high runs out of memory",
    )
    beam_size: int = Field(
        default=4,
        ge=1,
        le=20,
        description="hypotheses kept at each step for requests that name no number. 1 is about"
        " three times as fast as 4 and a little worse; beyond 5 little is gained",
    )
    max_batch: int = Field(
        default=0,
        ge=0,
        description="sentences in one batch of the device; 0 takes 16 on cpu and 64 elsewhere. Too"
        " low wastes a GPU, too high runs out of its memory (batches are then halved)",
    )
    max_item_characters: int = Field(
        default=5000,
        ge=1,
        description="longest text of one item, characters; a longer one fails alone. Too high lets"
        " one item hold up the others of its call",
    )
    max_items_in_flight: int = Field(
        default=64,
        ge=1,
        description="items of one call that are worked on at once; further ones wait at the"
        " client. Too low leaves batches unfilled, too high lets one call fill the queue",
    )
    self_test: bool = Field(
        default=True,
        description="whether each model must translate a known sentence before the service says"
        " that it serves; turn it off only for a model whose output is checked elsewhere",
    )
    metrics_listen: MetricsAddress = metrics_on(9153)
