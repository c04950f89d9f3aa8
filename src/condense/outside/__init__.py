"""Synthetic sets that other programs wrote: reading their files (`forms`, `torchfile`, `finding`), their
numbers (`coding`), and their classes (`numbering`, `order`).

This file imports nothing: the command names readings without loading torch.
"""
