"""PyMySQL's TLS where nothing is asked of it: one context for all connections.

Told nothing, PyMySQL uses TLS if the server can, and checks no certificate. All the same it makes a context for each
connection and has it load all certificates that the system trusts: most of what opening a connection takes (PyMySQL
1.2, connections.py, `_create_ssl_ctx`). A context may be used by many connections and threads (Python documentation,
`ssl`, "SSL Contexts").

The method is not public. Shared is only what it makes of no options, and only if that checks no certificate, so that
nobody is trusted who was not before; a version that makes its contexts elsewhere goes its own way.

And where it closes its socket without a word, as an interrupt in the middle of an answer makes it do, a link is kept on
which the server's end can be awaited (`parting`): else the server has that session for a moment more, beside the one
that takes its seat.
"""

from __future__ import annotations

import functools
import ssl
from typing import Any

from .parting import link_of

__all__ = ["sharing"]

_shared: list[Any] = []
"""The context, once it was made."""


@functools.cache
def sharing(base: Any) -> Any:
    """A subclass of a connection of PyMySQL; the same one each time."""

    class Sharing(base):  # type: ignore[misc]  # the driver's
        """As the driver's."""

        polysession_link: Any = None

        def connect(self, *args: Any, **named: Any) -> None:
            try:
                super().connect(*args, **named)
            except BaseException:
                self._drop_link()  # nobody will wait for the end of that
                raise

        def __del__(self) -> None:
            self._drop_link()
            super().__del__()

        def _drop_link(self) -> None:
            link, self.polysession_link = self.polysession_link, None
            if link is not None:
                link.close()

        def _force_close(self) -> None:
            if not self._closed and self.polysession_link is None:
                self.polysession_link = link_of(self)
            super()._force_close()

        def _create_ssl_ctx(self, options: Any) -> Any:
            if options:
                return super()._create_ssl_ctx(options)
            if _shared:
                return _shared[0]
            context = super()._create_ssl_ctx(options)
            if context.verify_mode is ssl.CERT_NONE:
                _shared.append(context)
            return context

    return Sharing
