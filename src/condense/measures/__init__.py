"""What the papers measure of synthetic sets besides accuracy, as pure functions on features and pixels."""
