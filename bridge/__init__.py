"""The backend side: receives, proves, keeps, forwards and commands.

Pure parts decide (`ingest`, `ledger`, `clock`, `twin`, `vehicle`, `commands`,
`projection`, `cloud_event`); around them stand the MQTT intake, the store, the signer,
the sinks and the HTTP API, put together by `bridge.bootstrap`.
"""
