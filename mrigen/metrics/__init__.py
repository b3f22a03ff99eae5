"""Distances of sets of images and errors of reconstructions, with and without clean data."""
