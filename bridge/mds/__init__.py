"""What a city is told of the fleet: MDS 2.0, mode car-share (docs/adr/0019)."""
