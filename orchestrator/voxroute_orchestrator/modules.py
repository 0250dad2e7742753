"""The services that a host can start, by their modules."""

ASR_MLX = "voxroute_asr_mlx"
ASR_WHISPERX = "voxroute_asr_whisperx"
TRANSLATE = "voxroute_translate"
