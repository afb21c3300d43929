"""Traces: whole files or none, whatever ends."""

import collections
import json
import os
import re
import signal

import harness
from harness import ADULT, BIN

BATCHES = 128  # of the 32,561 rows of Adult, with 256 rows each


class Trace(harness.SheafTest):
    def setUp(self):
        super().setUp()
        self.file = self.folder / "trace.json"

    def spans(self):
        """What the file holds, as (process, event); it parses and nothing is left beside it."""
        self.assertEqual([path.name for path in self.folder.glob("*trace*")], ["trace.json"])
        trace = json.loads(self.file.read_text())
        events = trace["traceEvents"]
        names = {event["pid"]: event["args"]["name"] for event in events if event["name"] == "process_name"}
        for event in events:
            self.assertGreaterEqual(event.get("ts", 0), 0)
            self.assertGreaterEqual(event.get("dur", 0), 0)
        return [(names[event["pid"]].split("-")[0], event) for event in events if event["ph"] in "Xbi"]

    def events(self):
        """How often each event is there, by process and name."""
        return collections.Counter((process, event["name"]) for process, event in self.spans())

    def batches(self, name):
        """How often a worker did this to a batch, by (range, batch)."""
        return collections.Counter((event["args"]["range"], event["args"]["batch"])
                                   for process, event in self.spans() if (process, event["name"]) == ("worker", name))

    def test_a_run_shows_every_batch_of_every_process(self):
        outcome = self.run_ok("run", ADULT, "--trace", self.file, "--set", "train.epochs=2",
                              "--set", "train.batch_size=256")
        # At least: at a pass's end an idle worker takes over a range that its holder may just have begun.
        pushes, pulls, computed = self.batches("push"), self.batches("pull"), self.batches("compute")
        self.assertEqual(len(pushes), BATCHES)
        self.assertTrue(all(count >= 2 for count in pushes.values()), pushes)
        self.assertGreater(computed.total(), pushes.total())  # the test rows are pulled for and computed only
        for batch, count in computed.items():
            self.assertGreaterEqual(pulls[batch], count, batch)
        events = self.events()
        self.assertGreaterEqual(events["server", "push"], 2 * BATCHES)
        self.assertGreater(events["worker", "read"], 0)
        self.assertGreater(events["scheduler", "lease"], 0)
        self.assertEqual(events["scheduler", "pass: train"], 2)
        self.assertIn("PULLS HIDDEN", outcome.err)

    def start_long_run(self, *arguments):
        process = self.start("run", ADULT, "--set", "train.epochs=100000",
                             "--log_dir", self.folder / "logs", *arguments)
        harness.wait_until(lambda: self.workers_of(process), 30, "workers start")
        return process

    def address_of(self, process):
        self.assertIsNone(process.poll())
        [address] = re.findall(r" address=(\S+)", (self.folder / "logs" / "scheduler.log").read_text())
        return address

    def test_an_interrupted_run_leaves_a_whole_file(self):
        process = self.start_long_run("--trace", self.file)
        log = self.folder / "logs" / "scheduler.log"
        # So long that questions were answered.
        harness.wait_until(lambda: "epoch=20 working" in log.read_text(), 60, "epochs pass")
        process.send_signal(signal.SIGINT)
        self.assertEqual(self.finish(process).code, 130)
        self.assertGreater(self.events()["worker", "compute"], 0)

    def test_a_running_cluster_is_traced_although_a_worker_dies(self):
        run = self.start_long_run()
        address = self.address_of(run)
        tracer = self.start("trace", "--seconds", "3", "-o", self.file, "--scheduler", address)
        os.kill(self.workers_of(run)[0], signal.SIGKILL)
        outcome = self.finish(tracer)
        self.assertEqual(outcome.code, 0, outcome)
        self.assertGreater(self.events()["worker", "compute"], 0)
        # A second one, interrupted: what there is, whole.
        self.file.unlink()
        tracer = self.start("trace", "--seconds", "600", "-o", self.file, "--scheduler", address)
        self.assertIn("recording", tracer.stderr.readline())
        second = ("trace", "--seconds", "0.1", "-o", self.folder / "second", "--scheduler", address)
        self.assertIn("somebody else", self.sheaf(*second).err)
        tracer.send_signal(signal.SIGINT)
        self.assertEqual(self.finish(tracer).code, 130)
        self.events()
        run.send_signal(signal.SIGINT)
        self.finish(run)


if __name__ == "__main__":
    harness.main()
