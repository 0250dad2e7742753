"""Imports what the service needs in any case, before it is known with which settings.

Nothing here may look at a variable when it is imported that a command sets for its services.
"""

import av.error  # noqa: F401 - as all of these

import voxroute_asr_whisperx.engine
import voxroute_asr_whisperx.settings
import voxroute_asr_whisperx.whisper  # noqa: F401
import voxroute_serving.app
import voxroute_serving.asr
import voxroute_serving.log_lines
import voxroute_serving.main  # noqa: F401
