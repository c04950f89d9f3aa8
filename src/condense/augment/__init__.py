"""Augmentation of batches of images, with draws that can be recorded, shared and replayed."""
