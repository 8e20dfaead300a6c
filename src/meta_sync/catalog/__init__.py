"""The source catalog: products, variants and inventory as the store sees them. Knows nothing about Meta."""
