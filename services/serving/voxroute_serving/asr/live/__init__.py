"""Speech while it is spoken: utterances, committed and tentative text, many streams on a device."""
