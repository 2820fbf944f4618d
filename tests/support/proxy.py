"""A line to a server: a TCP proxy on this machine, which can be cut and mended."""

import contextlib
import socket
import threading


class Line:
    """Passes connections on to a port of this machine; while it is cut there are none, and new ones are refused."""

    def __init__(self, port: int):
        self._target = port
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._is_cut = False
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def cut(self) -> None:
        """Ends all connections, and every new one."""
        with self._lock:
            self._is_cut = True
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            self._open.clear()

    def mend(self) -> None:
        """Lets new connections pass."""
        with self._lock:
            self._is_cut = False

    def close(self) -> None:
        """Ends the proxy."""
        self.cut()
        self._listening.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                ours, _ = self._listening.accept()
                self._connect(ours)

    def _connect(self, ours: socket.socket) -> None:
        with self._lock:
            try:
                if self._is_cut:
                    raise OSError
                theirs = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                ours.close()
                return
            self._open |= {ours, theirs}
        for pair in ((ours, theirs), (theirs, ours)):
            threading.Thread(target=_pass_on, args=pair, daemon=True).start()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for connection in (source, target):
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
