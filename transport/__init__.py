"""MQTT sessions over mutual TLS, for the car, the fleet and the bridge."""
