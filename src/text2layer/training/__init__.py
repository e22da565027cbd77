"""Trainers of the autoencoder and of the denoiser."""
