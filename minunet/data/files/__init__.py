"""Files of images: reading pixels, whole or by windows."""
