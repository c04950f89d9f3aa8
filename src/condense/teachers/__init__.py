"""Classifiers pretrained on the whole training set: critics, and the features that selections use."""
