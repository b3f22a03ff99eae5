"""Distances of sets of images, with and without clean data."""
