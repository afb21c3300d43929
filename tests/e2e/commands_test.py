"""The other commands, against a cluster that is started here process by process."""

import json

import harness
from harness import ADULT, BIN


class Usage(harness.SheafTest):
    def test_help_lists_every_command_and_explains_each(self):
        overview = self.run_ok("help").out
        for command in ("run", "submit", "status", "jobs", "cancel", "trace", "chaos", "export", "predict", "validate",
                        "datagen", "bench", "version"):
            self.assertIn(f"  {command} ", overview)
            self.assertIn("usage: sheaf " + command, self.run_ok("help", command).out)
            self.assertIn("usage: sheaf " + command, self.run_ok(command, "--help").out)
        self.assertIn("wire", self.run_ok("version").out)

    def test_mistakes_are_one_line_and_exit_2(self):
        for words, hint in (
            (("rnu", ADULT), 'did you mean "run"?'),
            (("run", ADULT, "--worker", "2"), 'did you mean "--workers"?'),
            (("run", ADULT, "--workers", "0"), "must be from 1 to 256"),
            (("run",), "JOB.textproto is missing"),
            (("run", ADULT, "--model", ""), "--model must not be empty: --model FILE"),
            (("status", "--scheduler="), "--scheduler must not be empty"),
            (("run", ADULT, "--model", "m", "--report", "./m"), "--report and --model are the same file m:"),
            (("status", "-o", "xml"), "one of: table, json"),
            (("cancel", "x"), "is no job number"),
            (("predict", "--model", "m"), "--data FILE is missing"),
            (("datagen", "ctr"), "--out FILE is missing"),
        ):
            outcome = self.sheaf(*words)
            self.expect_failure(outcome, 2, hint)
            self.assertEqual(outcome.err.count("\n"), 1, outcome)
            self.assertEqual(outcome.out, "")

    def test_examples_are_well_formed(self):
        for job in sorted((harness.ROOT / "examples").glob("*.job.textproto")):
            self.run_ok("validate", job)


class Datagen(harness.SheafTest):
    def test_is_a_function_of_its_options_and_splits_rows(self):
        names = [self.folder / name for name in ("a.tsv", "b.tsv", "c.tsv")]
        out = self.run_ok("datagen", "ctr", "--rows", 1000, "--out", *names).out
        self.assertIn("AUC", out)
        lines = [name.read_text().splitlines() for name in names]
        self.assertEqual([len(part) for part in lines], [333, 333, 334])
        whole = self.folder / "whole.tsv"
        self.run_ok("datagen", "ctr", "--rows", 1000, "--out", whole)
        self.assertEqual(whole.read_text().splitlines(), sum(lines, []))
        self.assertEqual({len(line.split("\t")) for line in lines[0]}, {11})

    def test_full_disk(self):
        outcome = self.sheaf("datagen", "ctr", "--rows", 10000, "--out", "/dev/full")
        self.expect_failure(outcome, 1, "/dev/full", "No space left")


class Cluster(harness.SheafTest):
    def setUp(self):
        super().setUp()
        address_file = self.folder / "address"
        self.start(f"--address_file={address_file}", "--listen=127.0.0.1", "--port=0", program=BIN / "sheaf-scheduler")
        harness.wait_until(address_file.exists, 20, "scheduler starts")
        self.address = address_file.read_text().strip()
        scheduler = f"--scheduler={self.address}"
        for _ in range(2):
            self.start(scheduler, "--listen=127.0.0.1", "--port=0", program=BIN / "sheaf-server")
        self.start(scheduler, f"--data={harness.ROOT / 'examples' / 'data'}", program=BIN / "sheaf-worker")

    def on(self, command, *arguments, **options):
        return self.run_ok(command, *arguments, "--scheduler", self.address, **options)

    def test_submit_status_jobs_export_predict_bench(self):
        report = self.folder / "report.json"
        self.on("submit", ADULT, "--follow", "--report", report, "--set", "train.epochs=2")
        outcome = json.loads(report.read_text())
        self.assertEqual(outcome["status"], "finished")
        self.assertEqual((outcome["servers"], outcome["workers"]), (2, 1))

        status = json.loads(self.on("status", "-o", "json").out)
        roles = sorted(node["role"] for node in status["nodes"] if node["state"] == "alive")
        self.assertEqual(roles, ["server", "server", "worker"])
        self.assertIn("worker-", self.on("status").out)
        jobs = json.loads(self.on("jobs", "-o", "json").out)
        self.assertEqual([job["status"] for job in jobs], ["finished"])

        model = self.folder / "m.safetensors"
        self.on("export", outcome["job"], model)
        data = harness.ROOT / "examples" / "data" / "adult" / "a9a.t.xz"
        metrics = json.loads(self.run_ok("predict", "--model", model, "--data", data, "--metrics", "-o", "json").out)
        self.assertEqual(metrics["confusion"], outcome["test"]["confusion"])
        self.assertIn("rows/s", self.on("bench", "--seconds", "1").out)
        self.expect_failure(self.sheaf("bench", "--job", 77, "--scheduler", self.address), 3, "job 77 has no table")
        missing = self.sheaf("predict", "--model", model, "--data", self.folder / "none.txt")
        self.expect_failure(missing, 3, f"--data: no file matches {self.folder / 'none.txt'}")

    def test_run_on_a_cluster_that_is_there(self):
        model = self.folder / "m"
        self.on("run", ADULT, "--set", "train.epochs=1", "--model", model)
        self.assertTrue(model.exists())
        self.assertEqual(json.loads(self.on("jobs", "-o", "json").out)[0]["examples_total"], 32561)

    def test_cancel_ends_a_job(self):
        job = self.on("submit", ADULT, "--set", "train.epochs=1000").out.strip()
        self.on("cancel", job, "--reason", "enough")
        [status] = json.loads(self.on("jobs", job, "-o", "json").out)
        self.assertEqual(status["status"], "cancelled")
        self.assertIn("enough", status["detail"])
        self.on("cancel", job)  # it is what was wanted

    def test_cancel_says_that_a_job_was_over(self):
        self.on("submit", ADULT, "--set", "train.epochs=1", "--follow")
        outcome = self.sheaf("cancel", 1, "--scheduler", self.address)
        self.expect_failure(outcome, 1, "job 1 (adult) has finished already")
        self.assertEqual(outcome.out, "")

    def test_progress_is_a_line_each_ten_seconds_without_a_terminal(self):
        report = self.folder / "report.json"
        err = self.on("submit", ADULT, "--set", "train.epochs=40", "--follow", "--report", report).err
        seconds = json.loads(report.read_text())["wall_seconds"]
        lines = [line for line in err.splitlines() if line.startswith("[train")]
        self.assertIn(len(lines), range(1, 3 + int(seconds / 10)), err)

    def test_unknown_job_is_not_found(self):
        for command in (("cancel", "99"), ("status", "99"), ("export", "99", self.folder / "m")):
            self.expect_failure(self.sheaf(*command, "--scheduler", self.address), 3, "99")
        self.assertFalse((self.folder / "m").exists())


if __name__ == "__main__":
    harness.main()
