"""The embedded broker: an existing MQTT server, started and stopped by us."""
