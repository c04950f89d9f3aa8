"""Judging a synthetic set: networks are trained on it and tested on real images."""
