"""Run the service: ``python -m examples.fleet_service --help``."""

import argparse
import asyncio
import signal
from collections.abc import Mapping
from pathlib import Path

from examples.fleet_service.book import Book
from examples.fleet_service.service import FleetService


def main() -> None:
    """Read the command line and serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description="A small fleet service.")
    parser.add_argument("--bridge", default="http://127.0.0.1:8080")
    parser.add_argument("--key-file", type=Path, required=True)
    parser.add_argument("--secret-file", type=Path, required=True)
    parser.add_argument("--book", type=Path, default=Path("fleet-service.sqlite"))
    parser.add_argument("--port", type=int, default=8090)
    asyncio.run(serve(parser.parse_args()))


async def serve(arguments: argparse.Namespace) -> None:
    """Serve until SIGINT or SIGTERM."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    book = Book(arguments.book)
    service = FleetService(
        bridge_url=arguments.bridge,
        api_key=_first_line(arguments.key_file),
        webhook_secret=_first_line(arguments.secret_file),
        book=book,
        listener=show,
    )
    hook = await service.start(port=arguments.port)
    print(f"serving; webhooks go to {hook}", flush=True)
    try:
        await stop.wait()
    finally:
        await service.stop()
        book.close()


def show(event_type: str, event: Mapping[str, object], is_new: bool) -> None:
    """Print one event."""
    again = "" if is_new else "  (again, dropped)"
    print(
        f"{event.get('time')}  {event.get('subject')}  {event_type}{again}", flush=True
    )


def _first_line(path: Path) -> str:
    return path.read_text(encoding="ascii").splitlines()[0].strip()


if __name__ == "__main__":
    main()
