"""A model for others: an HTTP server that speaks OpenAI's protocol over the local engine."""
