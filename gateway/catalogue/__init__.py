"""The words of the car's display, in the languages of its customers."""
