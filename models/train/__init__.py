"""Training of the bundled models, from a grammar and speech synthesisers alone."""
