"""Paired measurements: this product against the libraries it is built on, in one run."""
