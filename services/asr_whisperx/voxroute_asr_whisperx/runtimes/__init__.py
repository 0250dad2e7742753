"""What runs a Whisper model: CTranslate2, and PyTorch on a GPU."""
