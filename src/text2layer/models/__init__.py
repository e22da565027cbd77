"""The networks: the composition-aware autoencoder, its losses, the denoiser, the text encoder."""
