"""The serial link between the gateway and the car's board: frames and messages.

Pure, and used from both ends: `gateway.hardware` speaks it to a microcontroller, the
emulator speaks it from the microcontroller's side. `message` declares what is said,
`framing` puts it on the wire and takes it off again, `link` is the gateway's end of the
conversation: numbering, repetition, heartbeat and silence. docs/board-protocol.md is
the specification for whoever writes the firmware.
"""
