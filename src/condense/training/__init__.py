"""Training of networks on tensors."""
