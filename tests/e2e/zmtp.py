"""As much of ZeroMQ's wire protocol (ZMTP 3.0, https://rfc.zeromq.org/spec/23/) as it takes to send wrong messages.

The tests that use it speak to our processes as a stranger would, so they must not use our transport, nor need a
ZeroMQ for Python. Blocking, one connection, NULL mechanism.
"""

import pathlib
import re
import socket
import struct

GREETING = b"\xff" + b"\0" * 7 + b"\x01\x7f" + b"\x03\x00" + b"NULL".ljust(20, b"\0") + b"\0" + b"\0" * 31
MORE, LONG, COMMAND = 1, 2, 4


def varint(number):
    out = b""
    while number >= 0x80:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


WIRE_VERSION = int(re.search(
    r"kWireVersion = (\d+);",
    (pathlib.Path(__file__).parents[2] / "common/base/build_info.h").read_text())[1])
PREFIX = b"\x08" + varint(WIRE_VERSION)  # what every header begins with


def header(wire_version, request, field, body=b""):
    """A pb::Header: its version, its request number, and one body of this field number."""
    return (b"\x08" + varint(wire_version) + b"\x10" + varint(request)
            + varint(field << 3 | 2) + varint(len(body)) + body)


class Peer:
    """A connected socket: DEALER if we called, ROUTER if we were called."""

    def __init__(self, connection, kind, identity=b""):
        self.connection = connection
        connection.settimeout(20)
        connection.sendall(GREETING)
        self._read(64)
        properties = self._property(b"Socket-Type", kind)
        if identity:
            properties += self._property(b"Identity", identity)
        body = b"\x05READY" + properties
        connection.sendall(bytes([COMMAND, len(body)]) + body)
        flags, _ = self._frame()
        assert flags & COMMAND, "no READY"

    @staticmethod
    def connect(port, number):
        """As the peer of this number: our routing ids are a 1 and eight bytes."""
        connection = socket.create_connection(("127.0.0.1", port), timeout=20)
        return Peer(connection, b"DEALER", b"\x01" + struct.pack(">Q", number))

    @staticmethod
    def accept(listener):
        return Peer(listener.accept()[0], b"ROUTER")

    def send(self, *frames):
        for i, frame in enumerate(frames):
            more = MORE if i + 1 < len(frames) else 0
            self.connection.sendall(bytes([more | LONG]) + struct.pack(">Q", len(frame)) + frame)

    def receive(self):
        frames = []
        while True:
            flags, frame = self._frame()
            if flags & COMMAND:
                continue
            frames.append(frame)
            if not flags & MORE:
                return frames

    def close(self):
        self.connection.close()

    @staticmethod
    def _property(name, value):
        return bytes([len(name)]) + name + struct.pack(">I", len(value)) + value

    def _frame(self):
        flags = self._read(1)[0]
        size = struct.unpack(">Q", self._read(8))[0] if flags & LONG else self._read(1)[0]
        return flags, self._read(size)

    def _read(self, size):
        data = b""
        while len(data) < size:
            piece = self.connection.recv(size - len(data))
            if not piece:
                raise ConnectionError("the connection was closed")
            data += piece
        return data
