// Bugs on demand, to test the tests: each is a mistake one could make in the protocol, and the simulator must find each
// (scripts/planted_bugs.sh). Without SHEAF_PLANTED_BUGS, that is in whatever is shipped, nothing of them is left in the
// code.
//
// At most one is in force, for the whole process; the test that looks for it sets it before it starts a cluster.
//
// The mistakes that every system of this kind is tempted by, and what they are here:
//   acknowledge before apply               kAckWithoutApply, kAckedByOneShard
//   dedupe key without epoch               kDedupAcrossPasses; without range: kDedupIgnoresRange
//   lease re-issued from memory            kReissuedFromMemory, kReportsUnacknowledged
//   window off by one                      kWindowForgetsNewest, kSspBoundOffByOne
//   SSP minimum that ignores a joiner      kJoinerNotAwaited
//   barrier counts messages, not members   kBarrierCountsMessages, kClockCountsPushes
//   stale map accepted                     kServerTakesOldConfig, kUpdateOutOfTurn
//   credit leak                            kCreditLeak, kParkedKeepsCredit
//   retry with a new identity              kRetryUnderNewName
//   a worker's own pushes reordered        kPushesOvertake
#pragma once

namespace sheaf {

enum class Bug {
  kNone,
  // Servers: pushes.
  kAckWithoutApply,        // a push is noted and answered, its values are dropped
  kNoDedup,                // a repeated push is a new one
  kDedupIgnoresRange,      // pushes of two ranges with one number are the same push
  kDedupAcrossPasses,      // a pass starts with the pushes of the one before noted as in
  kWindowForgetsNewest,    // SeqWindow: the number just below the floor is not in
  kMixedAttempts,          // slices of different senders or attempts are put together
  kDuplicateStopsClock,    // a repeated push does not finish its sender's clock
  kAwaitedPushRefused,     // BSP: the push that would make room is refused for want of room
  kStaleSlicesKept,        // slices stay when their pass has ended
  // Servers: clocks and pulls.
  kSspBoundIgnored,        // SSP answers as ASP does
  kSspBoundOffByOne,       // staleness + 1
  kBspPullTooEarly,        // a pull sees the clock before its own unfinished
  kJoinerNotAwaited,       // a lane is not waited for before its first push
  kClockCountsPushes,      // a lane's clock is how many of its pushes came, not which
  kBarrierCountsMessages,  // a clock is complete when as many pushes have come as there are lanes, whosever they are
  kSumInArrivalOrder,      // BSP: not in lane order
  kMeanOverAllLanes,       // BSP: divided also by the lanes that have ended
  kNoUndo,                 // BSP: a lane taken over sees its clock applied already
  kParkedNeverWoken,       // a pull that was parked stays so
  kServerTakesOldConfig,   // a late configuration replaces a newer one
  kUpdateOutOfTurn,        // an update is applied to another configuration than it was made for
  // Servers: the log.
  kSentBeforeLogged,       // a push is answered before it is in the log
  kClockUnlogged,          // the clock that a repeated push finishes is not
  kUnlistedDropsAll,       // a configuration that does not list the server takes its rows
  // Servers: copies.
  kBackupsNotAwaited,      // a push is answered before its backups have it
  kSyncedBeforeImage,      // a backup is in sync before it has what was there
  kSyncedByImage,          // a backup is in sync although it lacks what was answered while its image was on its way
  kStreamNamesRepeat,      // streams to copies are numbered anew by each process: an answer to the one before counts
  kHandedOverUnfinished,   // what is handed over is taken before all is here that the old primary did to it
  kHeirsForgotten,         // who hands a partition over stops telling those that have copies of it
  kKeptTooLate,            // what comes to a handed over partition first is not told to the copies that stay
  kHandOverTakenBack,      // a copy goes on from what was handed over and taken back
  kMovedCopyConfirms,      // who has taken a partition over goes on to confirm what its old primary does to it
  kHeldAnswersSurvive,     // what waited for backups is answered when others have taken over
  kPromotedLearner,        // a learner is made the primary
  kFormerDrops,            // who was primary drops what it has before its successor is known to have it
  kUnsettledAnswers,       // a successor answers before it is known to have taken over
  kTakesOverNothing,       // who has no copy of what it should take over begins it empty
  kSyncOutdated,           // a backup is in sync by a report on what it had before
  // Servers: rounds of snapshots.
  kImageWithoutWindows,     // which pushes are in is not part of an image
  kTrimmedBeforeFlush,      // the log is cut before what replaces it is on the disk
  kNeverSleeps,             // what the log says of a partition is done again on top of its image
  kListsNamedAcrossRounds,  // records name key lists that were written before the round
  kStateAfterMark,          // an image says that it is of a moment before its state was taken
  // Servers: rows that leave memory.
  kChangedRowsLeave,        // a row leaves memory although the store has it as it was before
  kLeaveBeforeFlush,        // rows leave memory when they are copied, not when they are on the disk
  kColdTakenForAbsent,      // a row that has left memory is made anew
  kKeptRowsLeave,           // BSP: rows leave memory that gradients are kept for
  kAheadDoneAgain,          // what the log says of rows that are later than their image is done again on top of them
  kUndoneRowsAhead,         // BSP: rows of the last clock are written ahead of their image
  kLeaveBeforeLog,          // rows that leave are written before the log of what they say is on the disk
  // Client.
  kCreditLeak,             // a cancelled operation keeps its credit
  kParkedKeepsCredit,      // reads stand behind parked reads
  kRetryUnderNewName,      // a push sent again is another push
  kAckedByOneShard,        // a push is over when the first shard has answered
  // Worker.
  kReportsUnacknowledged,  // batches count as done when they are begun
  kLanesBlockEachOther,    // BSP: pulls that wait keep the batch that they wait for from being begun
  kLanesByArrival,         // BSP: batches of several lanes in the order of their leases, not of their clocks
  kFrontUnbounded,         // SSP: a pull's answer may move its batch past what its rows are as new as
  kSkipUntold,             // SSP: a lane that is behind leaves clocks out without saying so
  kClockLeftOut,           // a dropped lease's unfinished clocks are never used
  kClockAwaitedWhereRowsAre,  // BSP: a clock is begun when the servers that have its rows are there
  kPushesOvertake,         // BSP: a lane's push is sent although the one before is not in everywhere
  // Scheduler.
  kLeaseNumberReused,      // a range is leased again under the number it had
  kProgressForgotten,      // a range is leased again from its start
  kReissuedFromMemory,     // a range is leased again from after what its dead holder was at, whether that is in or not
  kFinishedTwice,          // a range counts as finished as often as it is reported so
  kEvalCountedAgain,       // an evaluated range's counts are added as often as they are reported
  kDeadKeepsLane,          // a dead worker's lane stays on the roster
  kGrantsUnpublished,      // leases name a lane that no configuration has yet
  kLeaverKept,             // a worker that wants to leave is given more
  // Scheduler: what it is to find again when it is started anew.
  kSentBeforeSaved,        // what depends on its state is sent before that is in the store
  kLeasesNumberedAnew,     // leases are numbered from 1 again
  kGenerationGoesBack,     // configurations are numbered from 1 again
  kLanesNumberedAnew,      // a lane has the number of one that has left
  kSavedRangesForgotten,   // saved ranges are leased again although their examples are counted
  kTakesUpAnywhere,        // a lease goes on although what is known of its range begins elsewhere
  kPlacementUnsaved,       // partitions get new epochs that the next scheduler does not know
  // Checkpoints.
  kCutWithoutWaiting,      // servers are told to freeze before all workers stand still
  kCommittedBeforeWritten,  // a checkpoint is committed before all servers have written
  kCutSeesLaterRows,       // a row that changes after it was frozen is written as it is then
  kReleasedUnheard,        // who goes on by itself after standing still says that it stands still
};

#ifdef SHEAF_PLANTED_BUGS
inline Bug planted_bug = Bug::kNone;
inline bool Planted(Bug bug) { return planted_bug == bug; }
#else
constexpr bool Planted(Bug) { return false; }
#endif

}  // namespace sheaf
