"""From token ids, images and sound to vectors."""
