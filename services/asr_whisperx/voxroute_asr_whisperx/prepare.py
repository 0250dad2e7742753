"""Converts Whisper to CTranslate2 as the service would; see voxroute_serving.models.preparation."""

import sys

from voxroute_asr_whisperx.engine import ctranslate2_directory
from voxroute_serving.models import preparation

if __name__ == "__main__":
    sys.exit(preparation.run(ctranslate2_directory))
