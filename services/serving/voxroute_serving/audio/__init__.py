"""From bytes to windows: what may be opened, decoding, tracks, mixing, voice activity."""
