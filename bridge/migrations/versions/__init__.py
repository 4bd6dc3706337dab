"""The steps, each named by its number; never changed once released."""
