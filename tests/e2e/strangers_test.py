"""Peers of another release, and peers that send rubbish: told why or dropped, and the cluster goes on."""

import contextlib
import os
import random
import re
import socket
import threading

import harness
import zmtp
from harness import ADULT, BIN

GET_CONFIG, CONFIG, REGISTER, REFUSAL = 55, 56, 30, 16


class Strangers(harness.SheafTest):
    def start_cluster(self):
        """A scheduler and a server; returns the ports of the scheduler and of the server's shard."""
        address_file = self.folder / "address"
        self.scheduler = self.start(f"--address_file={address_file}", "--port=0", program=BIN / "sheaf-scheduler")
        harness.wait_until(address_file.exists, 20, "scheduler starts")
        self.address = address_file.read_text().strip()
        self.server = self.start(f"--scheduler={self.address}", "--port=0", program=BIN / "sheaf-server")
        shard = harness.wait_until(self.shard_address, 20, "a registered server")
        return [int(text.rsplit(":", 1)[1]) for text in (self.address, shard)]

    def shard_address(self):
        peer = zmtp.Peer.connect(int(self.address.rsplit(":", 1)[1]), 77)
        try:
            peer.send(zmtp.header(zmtp.WIRE_VERSION, 1, GET_CONFIG))
            found = re.search(rb"tcp://[0-9.]+:[0-9]+", peer.receive()[0])
            return found.group().decode() if found else None
        finally:
            peer.close()

    def expect_well(self):
        """Both processes live, and the scheduler answers."""
        self.assertIsNone(self.scheduler.poll())
        self.assertIsNone(self.server.poll())
        status = self.run_ok("status", "--scheduler", self.address)
        self.assertIn("server-0", status.out)

    def test_a_peer_of_another_wire_version_is_told_both_versions(self):
        for number, port in enumerate(self.start_cluster()):
            peer = zmtp.Peer.connect(port, 1000 + number)
            peer.send(zmtp.header(99, 5, REGISTER))
            answer = peer.receive()[0]
            self.assertTrue(answer.startswith(b"\x08" + zmtp.varint(99)), answer)  # in words that it can read
            self.assertIn(b"your messages are of wire version 99", answer)
            self.assertIn(b"run the same build everywhere", answer)
            peer.close()
        self.expect_well()

    @contextlib.contextmanager
    def scheduler_that_answers(self, frame):
        """The address of one that sends this to the first message of its first peer, and nothing more."""
        listener = socket.create_server(("127.0.0.1", 0))
        listener.settimeout(20)

        def answer():
            peer = zmtp.Peer.accept(listener)
            peer.receive()
            peer.send(frame)
            try:
                while True:
                    peer.receive()
            except (ConnectionError, TimeoutError):
                peer.close()

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            thread.join()
            listener.close()

    def test_the_command_line_names_a_scheduler_of_another_version(self):
        with self.scheduler_that_answers(zmtp.header(99, 1, CONFIG)) as address:
            outcome = self.sheaf("status", "--scheduler", address, timeout=60)
        self.assertNotEqual(outcome.code, 0)
        self.assertIn("wire version 99", outcome.err, outcome)

    def test_servers_and_workers_end_beside_a_scheduler_of_another_version(self):
        text = b"your messages are of wire version 2, this process speaks version 99: run the same build everywhere"
        refusal = b"\x08" + zmtp.varint(10) + b"\x12" + zmtp.varint(len(text)) + text
        frame = zmtp.header(zmtp.WIRE_VERSION, 1, REFUSAL, refusal)  # in words that they can read
        for program in ("server", "worker"):
            with self.scheduler_that_answers(frame) as address:
                outcome = self.sheaf(f"--scheduler={address}", program=BIN / f"sheaf-{program}", timeout=20)
            self.expect_failure(outcome, 1, address, "speaks version 99: run the same build everywhere")

    def test_rubbish_harms_nobody(self):
        ports = self.start_cluster()
        chance = random.Random(7)
        shapes = [
            [b""], [b"", b"", b""], [zmtp.PREFIX], [b"x"] * 9, [os.urandom(140000)], [zmtp.PREFIX + os.urandom(200)],
            [zmtp.header(zmtp.WIRE_VERSION, 1, 10, os.urandom(50)), os.urandom(7)],
            [zmtp.header(zmtp.WIRE_VERSION, 1, 3), b"", os.urandom(1000)],                 # a large header that is none
            [zmtp.header(zmtp.WIRE_VERSION, 1, 12, b""), os.urandom(8), os.urandom(8)],    # a push of nothing
        ]
        for port in ports:
            peer = zmtp.Peer.connect(port, 2000)
            for turn in range(300):
                if turn % 50 == 49:
                    peer.close()
                    peer = zmtp.Peer.connect(port, 2000 + chance.randrange(1 << 40))
                frames = shapes[turn % len(shapes)]
                try:
                    peer.send(*frames)
                except OSError:  # it may hang up on us
                    peer.close()
                    peer = zmtp.Peer.connect(port, 2000 + chance.randrange(1 << 40))
            peer.close()
            raw = socket.create_connection(("127.0.0.1", port))  # not even ZeroMQ
            raw.sendall(os.urandom(5000))
            raw.close()
        self.expect_well()
        # And it still trains.
        self.start(f"--scheduler={self.address}", f"--data={ADULT.parent / 'data'}", program=BIN / "sheaf-worker")
        self.run_ok("submit", ADULT, "--scheduler", self.address, "--set", "train.epochs=1", "--follow")


if __name__ == "__main__":
    harness.main()
