"""Networks that a set is made with: embedding networks, drawn anew, out of a queue that is trained on real
images, or from a bank on disk; classifiers pretrained on the whole training set, which are critics, observers
and the features of selections; the CLIP critic."""
