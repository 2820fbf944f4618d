"""Kernels and feature maps over the epochs."""
