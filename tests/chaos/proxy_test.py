"""The proxy spoils what it is told to, and nothing else: a fault of its own would be taken for one of the product."""

import pathlib
import socket
import subprocess
import sys
import threading
import unittest

PROXY = pathlib.Path(__file__).with_name("proxy.py")
PATIENCE = 20
A_WHILE = 0.3         # for what must not come


class Proxy(unittest.TestCase):
    def setUp(self):
        self.behind = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(self.behind.close)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.proxy = subprocess.Popen(
            [sys.executable, "-B", str(PROXY), f"x=127.0.0.1:{self.port},127.0.0.1:{self.behind.getsockname()[1]}"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self.addCleanup(self.end_proxy)
        self.assertEqual(self.proxy.stdout.readline(), "ready\n")

    def end_proxy(self):
        self.proxy.stdin.close()
        self.assertEqual(self.proxy.wait(PATIENCE), 0)
        self.proxy.stdout.close()

    def order(self, text):
        self.proxy.stdin.write(text + "\n")
        self.assertEqual(self.proxy.stdout.readline(), f"{text}\n")

    def connect(self):
        """Both ends of a connection through it."""
        near = socket.create_connection(("127.0.0.1", self.port), PATIENCE)
        far, _ = self.behind.accept()
        for end in (near, far):
            end.settimeout(PATIENCE)
            self.addCleanup(end.close)
        return near, far

    def receive(self, end, size):
        data = b""
        while len(data) < size:
            piece = end.recv(size - len(data))
            self.assertTrue(piece, f"ended after {len(data)} bytes")
            data += piece
        return data

    def assert_nothing_comes(self, end):
        end.settimeout(A_WHILE)
        with self.assertRaises(TimeoutError):
            end.recv(1)
        end.settimeout(PATIENCE)

    def test_passes_everything_unchanged_in_both_directions(self):
        near, far = self.connect()
        there, back = bytes(range(256)) * 40_000, bytes(reversed(range(256))) * 30_000
        for end, data in ((near, there), (far, back)):
            threading.Thread(target=end.sendall, args=(data,), daemon=True).start()
        self.assertEqual(self.receive(far, len(there)), there)
        self.assertEqual(self.receive(near, len(back)), back)

    def test_holds_one_direction_and_lets_it_go_in_order(self):
        near, far = self.connect()
        self.order("hold x up")
        near.sendall(b"first")
        self.assert_nothing_comes(far)
        far.sendall(b"the other way")
        self.assertEqual(self.receive(near, 13), b"the other way")
        near.sendall(b"second")
        self.order("heal x")
        self.assertEqual(self.receive(far, 11), b"firstsecond")

    def test_delays_and_slows_without_losing_or_turning_around(self):
        near, far = self.connect()
        self.order("delay x 0.01")
        self.order("slow x 400000")
        data = bytes(range(256)) * 400
        for at in range(0, len(data), 1000):
            near.sendall(data[at:at + 1000])
        self.assertEqual(self.receive(far, len(data)), data)
        self.order("heal x")
        near.sendall(b"quick again")
        self.assertEqual(self.receive(far, 11), b"quick again")

    def test_tears_a_piece_and_lets_nothing_follow_the_hole(self):
        near, far = self.connect()
        self.order("tear x")
        near.sendall(b"0123456789")
        got = b""
        with self.assertRaises(ConnectionResetError):
            while piece := far.recv(100):
                got += piece
                try:
                    near.sendall(b"behind the hole")
                except ConnectionError:
                    pass                   # it is reset here, too
        self.assertTrue(b"0123456789".startswith(got) and len(got) < 10, got)

    def test_resets_connections_and_takes_new_ones(self):
        near, _ = self.connect()
        self.order("reset x")
        with self.assertRaises(ConnectionResetError):
            near.recv(1)
        near, far = self.connect()
        near.sendall(b"hello")
        self.assertEqual(self.receive(far, 5), b"hello")

    def test_tells_whoever_calls_that_nobody_is_there(self):
        self.behind.close()
        with self.assertRaises(ConnectionResetError):     # at once, or when it listens
            with socket.create_connection(("127.0.0.1", self.port), PATIENCE) as near:
                near.recv(1)


if __name__ == "__main__":
    unittest.main()
