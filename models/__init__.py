"""The small bundled models: how they are trained, exported and judged."""
