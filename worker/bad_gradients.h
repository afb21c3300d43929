// Gradients that a worker has computed and that must not be applied: what is wrong with them, and how many there were.
//
// The worker looks before it pushes, as only it has the whole gradient: a batch that is refused changes nothing on any
// server. Servers look again at what comes to them, whoever sends it.
// Plain data. Thread-safety: none.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "proto/control.pb.h"
#include "worker/train_step.h"

namespace sheaf {

// What is wrong with what a batch would push, and what helps; nothing: it may go.
std::optional<std::string> FindPoison(const pb::JobSpec& spec, const StepResult& result);

// "batch 3 of range 17 (rows 4097 to 6144 of a.svm)": the range's rows, as they may be shuffled within it.
std::string BatchText(const pb::LeaseGrant& grant, uint32_t batch);

class BadGradients {
 public:
  // One was left out, with `why`. What the log should say of it: of many in a row the 1st, 2nd, 4th, 8th, and so on.
  std::optional<std::string> NoteRefused(uint64_t job, const std::string& why);
  void NoteGood(uint64_t job);
  void AddTo(pb::WorkerReport& report) const;

 private:
  uint64_t total_ = 0;
  uint64_t job_ = 0;
  uint32_t in_row_ = 0;  // of job_
};

}  // namespace sheaf
