"""Numbers of the mathematics around the engines: raised by hand when a change alters results, never for
tidying.

Those of the engines themselves stand in the classes of their recipes (`specs/`).

They enter the keys in the paths, so raising one asks for the files it concerns anew. They stand on floor 0,
apart from the code they number, because the workflow needs them without importing torch.
"""

NUMERICS = {
    "data": 1,  # preparation of a dataset: decoding, resizing, splitting, statistics
    "teachers": 2,  # pretraining of classifiers
    "statistics": 1,  # what layers of a classifier are given for the real images of each class
    "evaluate": 2,  # training on a synthetic set and testing
    "truths": 1,  # true accuracies of networks of a space
}
