"""The loops that turn a recipe and a dataset into a synthetic set."""
