"""The car's mind: state, events and the instant in; state, entries and actions out.

Nothing here reads a clock, a device or a file, or draws a random number. The one entry
is `vehicle.handle`; `acceptance` judges frames before they become events.
"""
