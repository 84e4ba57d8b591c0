"""Training a network that finds what stands out in a picture."""
