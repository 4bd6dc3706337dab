"""A Kafka of three brokers inside librdkafka, which fails on demand.

The client's own library has it, for its own tests; Python reaches it by its C names.
"""

import ctypes
from pathlib import Path
from typing import Final

import confluent_kafka

PRODUCE: Final = 0
"""Kafka's number of the request that brings messages."""

REQUEST_TIMED_OUT: Final = 7
NOT_ENOUGH_REPLICAS: Final = 19
NOT_ENOUGH_REPLICAS_AFTER_APPEND: Final = 20
OUT_OF_ORDER_SEQUENCE_NUMBER: Final = 45

BROKERS: Final = 3


def _library() -> ctypes.CDLL:
    beside = Path(confluent_kafka.__file__).parent.parent / "confluent_kafka.libs"
    library = ctypes.CDLL(str(next(beside.glob("librdkafka-*.so*"))))
    pointer, number = ctypes.c_void_p, ctypes.c_int32
    for name, result, arguments in (
        ("conf_new", pointer, []),
        ("new", pointer, [ctypes.c_int, pointer, ctypes.c_char_p, ctypes.c_size_t]),
        ("destroy", None, [pointer]),
        ("mock_cluster_new", pointer, [pointer, ctypes.c_int]),
        ("mock_cluster_destroy", None, [pointer]),
        ("mock_cluster_bootstraps", ctypes.c_char_p, [pointer]),
        ("mock_broker_set_down", ctypes.c_int, [pointer, number]),
        ("mock_broker_set_up", ctypes.c_int, [pointer, number]),
        ("mock_broker_set_rtt", ctypes.c_int, [pointer, number, ctypes.c_int]),
        (
            "mock_push_request_errors_array",
            None,
            [pointer, ctypes.c_int16, ctypes.c_size_t, pointer],
        ),
    ):
        function = getattr(library, f"rd_kafka_{name}")
        function.restype, function.argtypes = result, arguments
    return library


class MockKafka:
    """A cluster; `close` it last."""

    def __init__(self) -> None:
        self._library = _library()
        said = ctypes.create_string_buffer(256)
        configuration = self._library.rd_kafka_conf_new()
        self._client = self._library.rd_kafka_new(0, configuration, said, 256)
        self._cluster = self._library.rd_kafka_mock_cluster_new(self._client, BROKERS)
        servers = self._library.rd_kafka_mock_cluster_bootstraps(self._cluster)
        self.servers: str = servers.decode()

    def close(self) -> None:
        self._library.rd_kafka_mock_cluster_destroy(self._cluster)
        self._library.rd_kafka_destroy(self._client)

    def down(self) -> None:
        for broker in range(1, BROKERS + 1):
            self._library.rd_kafka_mock_broker_set_down(self._cluster, broker)

    def up(self) -> None:
        for broker in range(1, BROKERS + 1):
            self._library.rd_kafka_mock_broker_set_up(self._cluster, broker)

    def answer_after(self, milliseconds: int) -> None:
        for broker in range(1, BROKERS + 1):
            self._library.rd_kafka_mock_broker_set_rtt(
                self._cluster, broker, milliseconds
            )

    def refuse(self, *errors: int) -> None:
        """Answer the next messages with these errors, one after the other."""
        self._library.rd_kafka_mock_push_request_errors_array(
            self._cluster, PRODUCE, len(errors), (ctypes.c_int * len(errors))(*errors)
        )
