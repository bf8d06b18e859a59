"""Where calls come in: bytes in, endpoint called, bytes out."""
