"""Export folders: the manifest, the files, and atomic writes."""
