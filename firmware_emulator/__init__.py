"""The same gateway on emulated hardware: cars, boards, readers, customers, fleets.

Every part stands behind a port of `gateway.ports`, so that the gateway under test is
the production gateway; nothing in it knows that its car is emulated. No device is
reached from here: `gateway.hardware`, nfcpy and pyserial are not imported.
docs/test-engineers.md shows how to use it.
"""
