"""How a connection of PyMySQL for reads notices that its access mode was changed: by the status behind rows.

MariaDB reports it there, and PyMySQL reads that status and drops it. There are two ways to keep it. One looks at every
packet, by the method that reads them; it works with every version, and costs four calls for each row. The other is a
result of our own, which is asked once; it stands on what PyMySQL's classes look like inside, and is taken only where
they look as they are known (`reads_results_as_known`).
"""

from __future__ import annotations

from typing import Any, Final

__all__ = ["STATE_CHANGED", "noticing_packets", "noticing_result", "reads_results_as_known"]

STATE_CHANGED: Final = 0x4000
"""SERVER_SESSION_STATE_CHANGED (MySQL and MariaDB, client/server protocol, "OK packet" and "EOF packet")."""
_EOF: Final = 5
"""Bytes of the packet behind rows: its mark, the number of warnings, the status."""


def noticing_packets(base: Any) -> Any:
    """A subclass of a connection that looks at every packet."""
    from pymysql.err import MySQLError

    class Noticing(base):  # type: ignore[misc]  # the driver's
        """Looks at every packet."""

        def _read_packet(self, *args: Any, **named: Any) -> Any:
            try:
                packet = super()._read_packet(*args, **named)
            except MySQLError:
                self._is_unsure = True
                raise
            data = packet.get_all_data()
            if len(data) == _EOF and data[0] == 0xFE and data[4] << 8 & STATE_CHANGED:
                self._is_changed = True
            return packet

    return Noticing


def noticing_result(base: Any) -> Any:
    """A subclass of a connection whose results keep the status behind their rows."""
    from pymysql.connections import EOFPacketWrapper, MySQLResult
    from pymysql.err import MySQLError

    class Result(MySQLResult):  # type: ignore[misc]  # the driver's
        """Keeps the status behind its rows."""

        def _check_packet_is_eof(self, packet: Any) -> bool:
            if not packet.is_eof_packet():
                return False
            end = EOFPacketWrapper(packet)
            self.warning_count = end.warning_count
            self.has_next = end.has_next
            if end.server_status & STATE_CHANGED:
                self.connection._is_changed = True
            return True

        def _read_rowdata_packet_unbuffered(self) -> Any:
            connection = self.connection
            try:
                return super()._read_rowdata_packet_unbuffered()
            except MySQLError:
                if connection is not None:
                    connection._is_unsure = True
                raise

        def _finish_unbuffered_query(self) -> None:
            connection = self.connection
            try:
                super()._finish_unbuffered_query()
            except MySQLError:
                if connection is not None:
                    connection._is_unsure = True
                raise

    class Noticing(base):  # type: ignore[misc]  # the driver's
        """Has such results."""

        def _read_query_result(self, unbuffered: bool = False) -> Any:
            self._result = None
            result = Result(self)
            try:
                if unbuffered:
                    result.init_unbuffered_query()
                else:
                    result.read()
            except MySQLError:
                self._is_unsure = True
                raise
            self._result = result
            if result.server_status is not None:
                self.server_status = result.server_status
            return result.affected_rows

        def _read_ok_packet(self) -> Any:
            try:
                return super()._read_ok_packet()
            except MySQLError:
                self._is_unsure = True
                raise

    return Noticing


def reads_results_as_known() -> bool:
    """PyMySQL's own methods are those that `noticing_result` was written after: they use the same names."""
    try:
        from pymysql.connections import Connection, EOFPacketWrapper, MySQLResult

        read, end, behind = Connection._read_query_result, MySQLResult._check_packet_is_eof, EOFPacketWrapper.__init__
        names = [method.__code__.co_names for method in (read, end, behind)]
    except (ImportError, AttributeError):
        return False
    return names[:2] == [_RESULT, _END] and "server_status" in names[2]


_END: Final = ("is_eof_packet", "EOFPacketWrapper", "warning_count", "has_next")
_RESULT: Final = ("_result", "MySQLResult", "init_unbuffered_query", "read", "server_status", "affected_rows")
