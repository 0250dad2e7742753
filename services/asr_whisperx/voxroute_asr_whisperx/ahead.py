"""Imports what the service needs in any case, before it is known with which settings.

None of these may look at a variable when it is imported that a command sets for its services.
"""

import importlib

for _module in (
    "av.error",
    "voxroute_asr_whisperx.engine",
    "voxroute_asr_whisperx.settings",
    "voxroute_asr_whisperx.whisper",
    "voxroute_serving.asr.service",
    "voxroute_serving.telemetry.log_lines",
    "voxroute_serving.process.main",
):
    importlib.import_module(_module)
