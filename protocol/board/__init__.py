"""The serial frames between the gateway and the board in the car."""
