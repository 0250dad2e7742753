"""Captions of speech while it is spoken: sentences, their translations, sources of sound."""
