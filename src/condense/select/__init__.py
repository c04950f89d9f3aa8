"""Selection of real images: pure functions on the features, or the training record, of one class."""
