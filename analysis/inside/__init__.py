"""Kernels and feature maps of the CNN over the epochs."""
