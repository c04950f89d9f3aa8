"""The units in which work is reckoned before it is done. Floor 0; the estimate puts them together."""
