"""Ways into the source catalog beside single products: batches and files."""
