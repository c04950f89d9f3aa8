"""Where the embedding networks come from: drawn anew, out of a queue that is trained on real images, or from
a bank on disk."""
