"""From names to directories: the hub, the cache of conversions, ModelService."""
