"""Datasets as tensors: descriptions (`spec`), preparation (`prepare`, `own`), and reading (`dataset`).

This file imports nothing: the workflow reads `condense.data.spec` for every job, which must not load torch.
"""
