"""Training of a saliency network, which finds the subject of an image."""
