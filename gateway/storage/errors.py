"""What can go wrong with the ledger's file, split by what its owner must do.

* `gateway.ports.StoreError`: the root.

  * `StoreFullError`: no room. Nothing was kept; room may come with the next receipt.
  * `StoreBrokenError`: an I/O error. Whether the last call was kept is known only after
    the file has been opened anew (reliability.md L13); nothing was acted on.
  * `StoreDamagedError`: what lies in the file is not what was written. Opening moves
    such a file aside, as evidence, and begins a new ledger.
  * `StoreForeignError`: a newer gateway wrote the file; it is left as it is.
  * `StoreInUseError`: another process holds the file.
"""

from gateway.ports import StoreError


class StoreFullError(StoreError):
    """There is no room on the disk or in the ledger; nothing was kept."""

    retryable = True


class StoreBrokenError(StoreError):
    """The disk failed under a call; open the store anew and start from what it holds.

    The next call raises this too, whatever it is: after a failed fsync the operating
    system may report success for pages that it has dropped (reliability.md L13).
    """

    may_have_taken_effect = True


class StoreDamagedError(StoreError):
    """The file holds something else than this gateway wrote; it was not changed."""


class StoreRestoredError(StoreDamagedError):
    """The file is an older copy of the ledger; to go on with it would fork it."""


class StoreForeignError(StoreError):
    """A newer gateway wrote the file; it was not changed and is not damaged."""


class StoreInUseError(StoreError):
    """Another process has this ledger open; it was not changed."""

    retryable = True
