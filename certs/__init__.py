"""A fleet's PKI: who may speak to whom, and by which keys a report is proved.

What lives here: X.509 profiles, the authority that applies them, enrolment of vehicles,
trust bundle 1, and the fleet directory in which all of it lies. What does not: clocks
(`now` comes in as an argument), MQTT and HTTP. The gateway and the bridge read the
files written here through `protocol.fleet`, `protocol.keyfile` and `protocol.enrolment`
and never import this package.
"""
