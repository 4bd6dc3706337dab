"""HiveMQ's community edition, where `make brokers` has put it."""
