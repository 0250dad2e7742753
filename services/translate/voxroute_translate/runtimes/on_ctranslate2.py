# pyright: basic
"""CTranslate2: the fast runtime on cpu and cuda."""

from collections.abc import Sequence
from pathlib import Path

import ctranslate2

from voxroute_serving.device import weights
from voxroute_serving.device.host import processor_name
from voxroute_serving.device.nvidia import cuda_memory
from voxroute_serving.domain import DeviceInfo
from voxroute_serving.errors import ModelUnavailableError
from voxroute_translate.engine import FASTEST, Codec, Decoding, DeviceKind, output_limit
from voxroute_translate.registry import ModelCard

KIND = f"ctranslate2-{ctranslate2.__version__}-translate-1"
"""Names the conversion in the cache; the number changes when `convert.convert` does."""

_WORKERS = {"cuda": 2}  # batches at once, which share the weights: two overlap what one cannot


class Ct2Runtime:
    """A model in CTranslate2."""

    engine = "ctranslate2"

    def __init__(
        self, card: ModelCard, converted: Path, codec: Codec, kind: DeviceKind, compute_type: str
    ) -> None:
        wanted = FASTEST["ctranslate2"][kind] if compute_type == "auto" else compute_type
        supported = ctranslate2.get_supported_compute_types(kind)
        if compute_type == "auto" and wanted not in supported:
            wanted = "default"
        elif wanted not in supported and wanted != "default":
            raise ModelUnavailableError(
                f"compute type {wanted} is not known on this {kind}; use one of"
                f" {', '.join(sorted(supported))}"
            )
        free_before = cuda_memory()[1] if kind == "cuda" else None
        self._translator = ctranslate2.Translator(
            str(converted), device=kind, compute_type=wanted, inter_threads=_WORKERS.get(kind, 1)
        )
        # one thread more: it turns text into tokens, and tokens into text, beside the device
        self.workers = _WORKERS.get(kind, 1) + 1
        self._codec = codec
        self._max_output_tokens = output_limit(card.directory)
        self.device = DeviceInfo(
            kind=kind,
            name=_device_name(kind),
            compute_type=self._translator.compute_type,
        )
        expected = weights.expected_bytes(card.directory, self.device.compute_type)
        self.memory_bytes = weights.taken_bytes(expected, free_before)

    def generate(
        self, sources: Sequence[Sequence[str]], prefix: Sequence[str], decoding: Decoding
    ) -> list[tuple[list[str], bool]]:
        """For each source the best translation's tokens without prefix, and whether it ended."""
        results = self._translator.translate_batch(
            [list(tokens) for tokens in sources],
            target_prefix=[list(prefix)] * len(sources) if prefix else None,
            beam_size=decoding.beam_size,
            no_repeat_ngram_size=decoding.no_repeat_ngram_size,
            repetition_penalty=decoding.repetition_penalty,
            max_decoding_length=self._max_output_tokens + len(prefix),
            max_input_length=0,
            return_end_token=True,
        )
        outputs = []
        for result in results:
            tokens = result.hypotheses[0][len(prefix) :]
            ended = bool(tokens) and tokens[-1] == self._codec.target_eos
            outputs.append((tokens[:-1] if ended else tokens, ended))
        return outputs

    def close(self) -> None:
        """Frees the memory of the device."""
        self._translator.unload_model()


def _device_name(kind: str) -> str:
    if kind == "cuda":
        import torch  # noqa: PLC0415 - heavy, and not needed on cpu

        if torch.cuda.is_available():
            return torch.cuda.get_device_name(0)
        return "NVIDIA GPU"
    return processor_name()
