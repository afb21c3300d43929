#!/usr/bin/env python3
"""A TCP proxy that spoils what passes, on orders from its standard input. chaos.py starts it; it ends with its input.

  proxy.py NAME=LISTEN:PORT,TO:PORT ...

An order a line: `delay NAME SECONDS`, `hold NAME up|down` (that direction of every connection is silent, as if half
open), `slow NAME BYTES_A_SECOND`, `reset NAME` (all connections, now), `tear NAME` (each connection's next piece is cut
in the middle, and the connection reset), `heal NAME`. New connections bear what is in force. An order that is obeyed is
said back on standard output.
"""

import asyncio
import socket
import struct
import sys

PIECE = 256 * 1024
HIGH_WATER = 4 << 20


class Target:
    """What is in force for the connections to one process."""

    def __init__(self, to):
        self.to = to
        self.pairs = set()
        self.delay = 0.0
        self.rate = 0.0
        self.held = {"up": False, "down": False}
        self.tear = False

    def order(self, act, value):
        if act == "delay":
            self.delay = float(value)
        elif act == "slow":
            self.rate = float(value)
        elif act == "hold":
            self.held[value] = True
        elif act == "tear":
            self.tear = True
        elif act == "reset":
            for pair in list(self.pairs):
                pair.reset()
        elif act == "heal":
            self.delay = self.rate = 0.0
            self.held = {"up": False, "down": False}
            self.tear = False
        for pair in list(self.pairs):
            pair.look()


class Pair:
    """A connection and its continuation. Bytes of a direction leave in their order, each at its time."""

    def __init__(self, target):
        self.target = target
        self.ends = {}                    # direction -> the transport that it is read from
        self.queues = {"up": [], "down": []}
        self.free_at = {"up": 0.0, "down": 0.0}
        self.torn = False
        self.closed = False
        target.pairs.add(self)

    def other(self, direction):
        return self.ends.get("down" if direction == "up" else "up")

    def take(self, direction, data):
        target, loop = self.target, asyncio.get_running_loop()
        if self.torn:
            return                         # what comes behind the hole is not for the other end: a reset follows
        if target.tear and len(data) > 1 and self.other(direction):
            self.torn = True
            self.other(direction).write(data[:len(data) // 2])
            loop.call_later(0.01, self.reset)
            return
        queue = self.queues[direction]
        if not queue and not target.delay and not target.rate and not target.held[direction] and self.other(direction):
            self.other(direction).write(data)      # as nearly always
            return
        queue.append((max(loop.time(), self.free_at[direction]) + target.delay, data))
        if target.rate:
            self.free_at[direction] = max(loop.time(), self.free_at[direction]) + len(data) / target.rate
        self.look()

    def look(self):
        if self.closed:
            return
        loop = asyncio.get_running_loop()
        for direction, queue in self.queues.items():
            out = self.other(direction)
            while queue and out and not self.target.held[direction] and \
                    (queue[0][0] <= loop.time() or not (self.target.delay or self.target.rate)):
                out.write(queue.pop(0)[1])
            if queue and out and not self.target.held[direction]:
                loop.call_at(queue[0][0], self.look)
            source = self.ends.get(direction)
            waiting = sum(len(data) for _, data in queue)
            if source and waiting > HIGH_WATER:
                source.pause_reading()
            elif source and waiting < HIGH_WATER // 2:
                source.resume_reading()

    def reset(self):
        for transport in self.ends.values():
            sock = transport.get_extra_info("socket")
            if sock is not None and sock.fileno() >= 0:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()
        self.end()

    def end(self):
        self.closed = True
        self.target.pairs.discard(self)
        for transport in self.ends.values():
            transport.close()


class End(asyncio.Protocol):
    """One socket of a pair; `direction`: where what is read here goes."""

    def __init__(self, pair, direction):
        self.pair, self.direction = pair, direction

    def connection_made(self, transport):
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        transport.max_size = PIECE
        self.transport = transport
        if self.pair.closed:
            transport.abort()
            return
        self.pair.ends[self.direction] = transport
        if self.direction == "up":
            asyncio.ensure_future(self.connect())
        self.pair.look()

    async def connect(self):
        try:
            await asyncio.get_running_loop().create_connection(
                lambda: End(self.pair, "down"), *self.pair.target.to)
        except OSError:
            self.pair.reset()              # nobody is there: whoever called is told so

    def data_received(self, data):
        self.pair.take(self.direction, data)

    def eof_received(self):
        return False

    def connection_lost(self, error):
        if not self.pair.closed:
            self.pair.reset() if error else self.pair.end()

    # This end takes no more for now: what would be sent to it is not read, either.
    def pause_writing(self):
        source = self.pair.other(self.direction)
        if source:
            source.pause_reading()

    def resume_writing(self):
        source = self.pair.other(self.direction)
        if source:
            source.resume_reading()


def address(text):
    host, _, port = text.rpartition(":")
    return host, int(port)


async def main(arguments):
    loop = asyncio.get_running_loop()
    targets = {}
    for argument in arguments:
        name, _, ways = argument.partition("=")
        listen, to = ways.split(",")
        target = targets[name] = Target(address(to))
        await loop.create_server(lambda target=target: End(Pair(target), "up"), *address(listen), backlog=512)
    orders = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    print("ready", flush=True)
    while line := await orders.readline():
        act, name, *value = line.decode().split()
        targets[name].order(act, value[0] if value else "")
        print(line.decode().strip(), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
