"""What runs a model: PyTorch, CTranslate2, and their vocabularies."""
