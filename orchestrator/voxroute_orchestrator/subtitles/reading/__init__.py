"""Subtitle files of all formats as cues."""
