"""What engines of Whisper share: names, files, settings, decodings."""
