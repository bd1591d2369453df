"""An export folder: its manifest, its files, and how they are written."""
