"""The disk of a server is full: pulls are answered, others take over what they have copies of, nothing is lost."""

import json
import os
import subprocess
import unittest

import harness
from damage_test import ROWS, Cluster

MIB = 1 << 20


def can_mount():
    return os.geteuid() == 0 and subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode == 0


class SmallDisk(Cluster):
    """Server 0 has a disk of its own, of 320 MiB, in memory."""

    def server(self, number):
        folder = self.folder / f"store-{number}"
        if number == 0 and not folder.exists():
            folder.mkdir()
            done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=320m", "tmpfs", folder], capture_output=True)
            if done.returncode != 0:
                self.skipTest(f"no file system can be mounted here: {done.stderr.decode().strip()}")
            self.addCleanup(subprocess.run, ["umount", "-l", folder], check=True)
        return super().server(number)

    def fill(self):
        """Takes all the room that the disk has left."""
        with open(self.folder / "store-0" / "filler", "wb") as filler:
            free = os.statvfs(filler.fileno())
            size = free.f_bavail * free.f_frsize
            while size > 0:
                try:
                    os.posix_fallocate(filler.fileno(), os.fstat(filler.fileno()).st_size, size)
                except OSError:
                    size //= 2
                free = os.statvfs(filler.fileno())
                size = min(size, free.f_bavail * free.f_frsize)

    def make_room(self):
        (self.folder / "store-0" / "filler").unlink()

    def node(self):
        """Server 0, whatever it is called: the one that registers first is server-0."""
        return next(node for node in self.alive().values() if node["pid"] == self.servers[0].pid)

    def disk(self):
        return self.node()["disk"]

    def train(self, epochs):
        """A job that trains, once there is something in the log of server 0."""
        self.epochs = epochs
        self.process, self.report = self.submit(epochs)
        log = self.folder / "store-0" / "shard-0" / "log"
        harness.wait_until(lambda: log.exists() and sum(path.stat().st_size for path in log.glob("*.redo")) > 5_000, 60,
                           "the log has something")

    def ends_well(self):
        outcome = self.finish(self.process, timeout=300)
        self.assertEqual(outcome.code, 0, outcome)
        self.assertEqual(json.loads(self.report.read_text())["examples_total"], ROWS * self.epochs)


@unittest.skipUnless(can_mount(), "needs root, to mount a small file system")
class OnlyCopy(SmallDisk):
    replicas = 1

    def test_takes_no_pushes_until_there_is_room_and_loses_nothing(self):
        self.train(epochs=harness.shorter(60, 20))
        self.fill()
        harness.wait_until(lambda: self.disk() == "full", 60, "the server says that its disk is full")
        self.assertFalse((self.folder / "store-0" / "shard-0" / "reserve").exists(), "it has given up its reserve")
        self.assertIn("room on its disk", self.run_ok("status", "--scheduler", self.address).out)
        self.assertIsNone(self.process.poll())
        self.make_room()
        harness.wait_until(lambda: self.disk() == "sound", 60, "there is room")
        self.assertTrue((self.folder / "store-0" / "shard-0" / "reserve").exists())
        self.ends_well()


@unittest.skipUnless(can_mount(), "needs root, to mount a small file system")
class Copies(SmallDisk):
    replicas = 2

    def test_serve_while_the_disk_is_full(self):
        self.train(epochs=harness.shorter(100, 40))
        harness.wait_until(self.in_sync, 60, "both servers have copies of all")
        self.fill()
        harness.wait_until(lambda: self.node()["partitions"] == 0, 60, "the other one serves all")
        done = self.status()["jobs"][0]["examples_total"]
        harness.wait_until(lambda: self.status()["jobs"][0]["examples_total"] > done, 60, "training goes on")
        self.make_room()
        self.ends_well()


if __name__ == "__main__":
    harness.main()
