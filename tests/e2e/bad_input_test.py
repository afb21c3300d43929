"""Whatever is wrong: an exit code that says so, a message that names what and where, nothing half-written or left."""

import os
import signal
import socket
import subprocess
import threading
import time
import unittest

import harness
from harness import ADULT, BIN

GOOD_ROWS = "".join(f"{'+1' if i % 3 else '-1'} {1 + i % 7}:1 {10 + i % 5}:0.5\n" for i in range(200))
SMALL = ("--workers", 1, "--servers", 1)
JOB = 'name: "small"\ndata { format: LIBSVM train: "train.txt" test: "test.txt" }\ntrain { epochs: 2 batch_size: 16 }\n'


class BadJobFile(harness.SheafTest):
    def check(self, text, *texts, options=()):
        job = self.job(text)
        for command in (("validate", job), ("run", job, "--model", self.folder / "m", "--report", self.folder / "r")):
            outcome = self.sheaf(*command, *options)
            self.expect_failure(outcome, 78, *texts)
        self.assertFalse((self.folder / "m").exists())
        self.assertFalse((self.folder / "r").exists())

    def test_unknown_field(self):
        self.check(JOB.replace("batch_size", "batchsize"), "job.job.textproto:3:19: ",
                   'no field "batchsize" in TrainSpec', 'did you mean "batch_size"?')

    def test_unknown_value(self):
        self.check(JOB + "consistency { mode: SPS }", ":4:21: ", 'no value "SPS"', "SSP")

    def test_value_out_of_range(self):
        self.check(JOB + "optimizer { learning_rate: -1 }", ":4:13: ",
                   "optimizer.learning_rate is -1, must be greater than 0")

    def test_wrong_override(self):
        self.check(JOB, "--set train.epochs=0", "train.epochs is 0", options=("--set", "train.epochs=0"))

    def test_no_data(self):
        self.check("data { format: LIBSVM }", "data.train is missing")

    def test_garbage(self):
        self.check(bytes(range(1, 200)).decode("latin-1"), "job.job.textproto:1:")

    def test_missing_job_file(self):
        self.expect_failure(self.sheaf("run", "/nowhere/x.textproto"), 3, "/nowhere/x.textproto")


class BadData(harness.SheafTest):
    def check(self, files, *texts, settings=()):
        """A run with these files fails, names the texts, and leaves nothing."""
        data = self.folder / "data"
        data.mkdir(exist_ok=True)
        for name, content in ({"train.txt": GOOD_ROWS, "test.txt": GOOD_ROWS} | files).items():
            if content is not None:
                self.write(f"data/{name}", content)
        model = self.folder / "m"
        options = [word for setting in settings for word in ("--set", setting)]
        outcome = self.sheaf("run", self.job(JOB), "--data", data, "--model", model, *SMALL, *options, timeout=60)
        self.expect_failure(outcome, 1, *texts)
        self.assertFalse(model.exists(), "a model of a failed job")
        self.assertEqual([path.name for path in self.folder.glob("*.tmp*")], [])

    def test_good_data_is_taken(self):
        data = self.folder / "data"
        self.write("data/train.txt", GOOD_ROWS)
        self.write("data/test.txt", GOOD_ROWS)
        report = self.run_job(self.job(JOB), "--data", data, *SMALL)
        self.assertEqual(report["examples_total"], 400)

    def test_missing_file(self):
        self.check({"train.txt": None}, "train.txt")

    def test_missing_folder(self):
        outcome = self.sheaf("run", self.job(JOB), "--data", self.folder / "nowhere")
        self.expect_failure(outcome, 3, "nowhere", "does not exist")
        outcome = self.sheaf("run", self.job(JOB), "--data", self.write("rows.txt", GOOD_ROWS))
        self.expect_failure(outcome, 3, "rows.txt is a file")

    @unittest.skipIf(os.geteuid() == 0, "root reads everything")
    def test_unreadable_file(self):
        self.write("data/train.txt", GOOD_ROWS).chmod(0)
        self.check({"train.txt": None}, "train.txt", "ermission")

    def test_folder_in_place_of_rows(self):
        (self.folder / "data" / "train.txt").mkdir(parents=True)
        self.check({"train.txt": None}, "train.txt")

    def test_ragged_row(self):
        self.check({"train.txt": GOOD_ROWS + "+1 3:1 4\n"}, "train.txt:201")

    def test_index_zero(self):
        self.check({"train.txt": GOOD_ROWS + "+1 0:1\n"}, "train.txt:201")

    def test_label_that_is_no_number(self):
        self.check({"train.txt": GOOD_ROWS + "nan 1:1\n"}, "train.txt:201")

    def test_bad_row_of_the_test_file(self):
        self.check({"test.txt": GOOD_ROWS + "+1 0:1\n"}, "test.txt:201")

    def test_empty_file(self):
        self.check({"train.txt": ""}, "train.txt")

    def test_binary_garbage(self):
        self.check({"train.txt": os.urandom(5000)}, "train.txt")

    def test_broken_compression(self):
        self.check({"train.txt.xz": b"\xfd7zXZ\x00" + bytes(500)}, "train.txt.xz", settings=["data.train=train.txt.xz"])

    def test_bad_rows_can_be_skipped_and_are_counted(self):
        data = self.folder / "data"
        self.write("data/train.txt", GOOD_ROWS + "+1 0:1\n" + "oops\n")
        self.write("data/test.txt", GOOD_ROWS)
        report = self.run_job(self.job(JOB), "--data", data, *SMALL, settings=["data.on_bad_row=SKIP"])
        self.assertEqual(report["examples_total"], 400)
        self.assertEqual(report["bad_rows"], 2)


class BadSurroundings(harness.SheafTest):
    def test_unreachable_scheduler(self):
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            address = f"tcp://127.0.0.1:{unused.getsockname()[1]}"
            for command in (("status",), ("jobs",), ("cancel", "1"), ("submit", ADULT), ("bench",),
                            ("export", "1", self.folder / "m")):
                outcome = self.sheaf(*command, "--scheduler", address, "--timeout", "1", timeout=20)
                self.expect_failure(outcome, 6, address)
        self.assertFalse((self.folder / "m").exists())

    def test_stranger_in_place_of_a_scheduler(self):
        with socket.create_server(("127.0.0.1", 0)) as stranger:
            def talk():
                connection, _ = stranger.accept()
                with connection:
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" + os.urandom(1000))
            thread = threading.Thread(target=talk, daemon=True)
            thread.start()
            address = f"tcp://127.0.0.1:{stranger.getsockname()[1]}"
            outcome = self.sheaf("status", "--scheduler", address, "--timeout", "1", timeout=20)
            self.expect_failure(outcome, 6, address)
            thread.join()

    def test_address_that_is_none(self):
        outcome = self.sheaf("status", "--scheduler", "nonsense", "--timeout", "1", timeout=20)
        self.assertNotEqual(outcome.code, 0)
        self.assertIn("nonsense", outcome.err)

    def test_port_in_use(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            outcome = self.sheaf("--listen=127.0.0.1", f"--port={port}", program=BIN / "sheaf-scheduler", timeout=20)
            self.assertNotEqual(outcome.code, 0)
            self.assertIn(str(port), outcome.err)

    def test_programs_refuse_what_they_cannot_mean(self):
        rows = self.write("rows.txt", GOOD_ROWS)
        nobody = "--scheduler=tcp://127.0.0.1:1"
        for program, words, code, hint in (
            ("scheduler", ["--port=99999"], 2, "--port is 99999"),
            ("scheduler", ["here"], 2, '"here" is no flag'),
            ("server", [nobody, "here"], 2, '"here" is no flag'),
            ("worker", [nobody, "here"], 2, '"here" is no flag'),
            ("worker", ["--scheduler=tcp://127.0.0.1:99999"], 78, "there is no port 99999"),
            ("worker", [nobody, "--data=nowhere"], 3, "the data folder nowhere does not exist"),
            ("worker", [nobody, f"--data={rows}"], 3, "rows.txt is a file"),
        ):
            outcome = self.sheaf(*words, program=BIN / f"sheaf-{program}", timeout=20)
            self.expect_failure(outcome, code, hint)

    def test_output_that_cannot_be_written(self):
        for option in ("--model", "--report"):
            outcome = self.sheaf("run", ADULT, option, "/nowhere/at/all", timeout=20)
            self.assertNotEqual(outcome.code, 0)
            self.assertIn("/nowhere/at/all", outcome.err)

    def test_disk_full_while_exporting(self):
        data = self.write("data/train.txt", GOOD_ROWS).parent
        self.write("data/test.txt", GOOD_ROWS)
        outcome = self.sheaf("run", self.job(JOB), "--data", data, "--model", "/dev/full", *SMALL)
        self.expect_failure(outcome, 1, "/dev/full", "No space left")
        outcome = self.sheaf("run", self.job(JOB), "--data", data, "--report", "/dev/full", *SMALL)
        self.expect_failure(outcome, 1, "/dev/full", "No space left")

    def test_full_file_system_keeps_the_old_model(self):
        small = self.folder / "small"
        small.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", small], capture_output=True)
        if mounted.returncode != 0:
            self.skipTest("needs the right to mount a file system")
        self.addCleanup(subprocess.run, ["umount", small])
        (small / "m").write_text("the old model")
        (small / "ballast").write_bytes(bytes(60 << 10))
        data = self.write("data/train.txt", "".join(f"+1 {i + 1}:1\n-1 {i + 3001}:1\n" for i in range(3000))).parent
        self.write("data/test.txt", GOOD_ROWS)
        outcome = self.sheaf("run", self.job(JOB), "--data", data, "--model", small / "m", *SMALL)
        self.expect_failure(outcome, 1, small / "m", "No space left")
        self.assertEqual((small / "m").read_text(), "the old model")
        self.assertEqual(sorted(path.name for path in small.iterdir()), ["ballast", "m"])
        # Nor is there room for logs: the processes cannot say so themselves.
        with open(small / "ballast", "ab", buffering=0) as ballast, self.assertRaises(OSError):
            while True:
                ballast.write(bytes(1024))
        outcome = self.sheaf("run", self.job(JOB), "--data", data, "--log_dir", small, *SMALL)
        self.expect_failure(outcome, 6, "no space is left on the disk of", small)

    def test_what_is_killed_while_it_writes_leaves_nothing(self):
        rows = self.folder / "rows.tsv"
        for end in (signal.SIGINT, signal.SIGKILL):
            process = self.start("datagen", "ctr", "--rows", 10**9, "--out", rows)
            harness.wait_until(lambda: "rows/s" in process.stderr.readline(), 20, "it is on its way")
            process.send_signal(end)
            self.assertNotEqual(self.finish(process, timeout=20).code, 0)
            self.assertEqual([path.name for path in self.folder.iterdir()], [])

    def start_long_run(self, *arguments):
        process = self.start("run", ADULT, "--set", "train.epochs=1000", "--workers", 2, *arguments)
        harness.wait_until(lambda: len(self.workers_of(process)) == 2, 30, "workers start")
        time.sleep(1)
        return process

    def test_ctrl_c_leaves_nothing(self):
        process = self.start_long_run("--model", self.folder / "m")
        children = harness.descendants(process.pid)
        self.interrupt(process)
        outcome = self.finish(process, timeout=20)
        self.expect_failure(outcome, 130, "interrupted")
        harness.wait_until(lambda: not any(map(harness.alive, children)), 5, "children end")
        self.assertEqual([path.name for path in self.folder.iterdir()], [])

    def test_killing_sheaf_takes_its_processes_along(self):
        process = self.start_long_run()
        children = harness.descendants(process.pid)
        self.assertEqual(len(children), 5)
        process.kill()
        process.wait()
        harness.wait_until(lambda: not any(map(harness.alive, children)), 5, "children end")

    def test_dead_server_ends_the_run(self):
        process = self.start_long_run()
        server = next(pid for pid, name in harness.descendants(process.pid).items() if name == "sheaf-server")
        os.kill(server, signal.SIGKILL)
        outcome = self.finish(process, timeout=30)
        self.expect_failure(outcome, 6, "server-", "killed by signal 9", "log")

    def test_dead_scheduler_ends_the_run(self):
        process = self.start_long_run()
        children = harness.descendants(process.pid)
        scheduler = next(pid for pid, name in children.items() if name.startswith("sheaf-schedule"))
        os.kill(scheduler, signal.SIGKILL)
        outcome = self.finish(process, timeout=30)
        self.expect_failure(outcome, 6, "scheduler", "killed by signal 9")

    def test_time_limit(self):
        outcome = self.sheaf("run", ADULT, "--set", "train.epochs=1000", "--timeout", 4, timeout=40)
        self.expect_failure(outcome, 5, "has not ended within")


class BadModelFile(harness.SheafTest):
    def test_is_refused(self):
        data = self.write("rows.txt", GOOD_ROWS)
        for content in (b"", b"x", bytes(7), b"\xff" * 64, (2).to_bytes(8, "little") + b"{}", os.urandom(4096)):
            outcome = self.sheaf("predict", "--model", self.write("bad.model", content), "--data", data)
            self.expect_failure(outcome, 1, "bad.model")
        self.expect_failure(self.sheaf("predict", "--model", self.folder / "none", "--data", data), 3, "none")


if __name__ == "__main__":
    harness.main()
