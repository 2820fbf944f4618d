"""A line to a server: a TCP proxy on this machine, which can be cut and mended."""

import contextlib
import selectors
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
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def cut(self) -> None:
        """Ends all connections, and every new one."""
        with self._lock:
            self._is_cut = True
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        """Lets new connections pass."""
        with self._lock:
            self._is_cut = False

    def close(self) -> None:
        """Ends the proxy."""
        self.cut()
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join()

    def _serve(self) -> None:
        threads = []
        with contextlib.suppress(OSError):
            while True:
                ours, _ = self._listening.accept()
                threads.append(threading.Thread(target=self._pass_on, args=(ours,)))
                threads[-1].start()
        for thread in threads:
            thread.join()

    def _pass_on(self, ours: socket.socket) -> None:
        with ours, contextlib.suppress(OSError):
            with self._lock:
                if self._is_cut:
                    return
                theirs = socket.create_connection(("127.0.0.1", self._target))
                self._open |= {ours, theirs}
            with theirs:
                try:
                    _pump(ours, theirs)
                finally:
                    with self._lock:
                        self._open -= {ours, theirs}


def _pump(first: socket.socket, second: socket.socket) -> None:
    """Passes on what comes from either, until one of them ends."""
    with selectors.DefaultSelector() as ready:
        ready.register(first, selectors.EVENT_READ, second)
        ready.register(second, selectors.EVENT_READ, first)
        while True:
            for key, _ in ready.select():
                source, other = key.fileobj, key.data
                assert isinstance(source, socket.socket)
                data = source.recv(65536)
                if not data:
                    return
                other.sendall(data)
