"""Training a network that finds what stands out in an image."""
