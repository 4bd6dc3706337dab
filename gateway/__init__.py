"""The on-car agent: a pure core that decides and a thin shell that performs."""
