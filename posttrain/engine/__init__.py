"""What samples: tokens in, tokens out."""
