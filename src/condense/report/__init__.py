"""What people read: tables, figures, image grids and the report page, made from metrics and synthetic sets.

This file imports nothing; each module loads the libraries it needs.
"""
