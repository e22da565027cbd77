"""Measures of layers and of the models that make them."""
