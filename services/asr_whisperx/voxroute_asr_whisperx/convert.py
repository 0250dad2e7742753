# pyright: basic
"""Hugging Face Whisper checkpoints to CTranslate2's format."""

import warnings
from pathlib import Path
from typing import Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what transformers tells its authors while it loads
    import transformers
    from ctranslate2.converters import TransformersConverter

COPIED_FILES = ("tokenizer.json", "preprocessor_config.json")


class _Converter(TransformersConverter):
    """CTranslate2 4.8 names the numeric type as transformers >= 4.56 does, 4.53 otherwise."""

    def load_model(self, model_class: Any, model_name_or_path: str, **kwargs: Any) -> Any:
        kwargs["torch_dtype"] = kwargs.pop("dtype", None)
        return super().load_model(model_class, model_name_or_path, **kwargs)


def convert(source: Path, target: Path) -> None:
    """Fills the directory `target` with the CTranslate2 model of the checkpoint in `source`.

    The weights keep their numeric type; a smaller one is made when the model is loaded. A
    checkpoint without tokenizer.json gets one from its vocab.json and merges.txt.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        converter = _Converter(
            str(source),
            copy_files=[name for name in COPIED_FILES if (source / name).is_file()],
        )
        # force: the directory is there already, empty
        converter.convert(str(target), force=True)
        if not (target / "tokenizer.json").is_file():
            tokenizer = transformers.WhisperTokenizerFast.from_pretrained(str(source))
            tokenizer.backend_tokenizer.save(str(target / "tokenizer.json"))
