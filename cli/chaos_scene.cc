#include "cli/chaos_scene.h"

#include <algorithm>

#include "common/base/strings.h"

namespace sheaf::cli {
namespace {

std::string Partitions(uint32_t count) { return StrCat(count, count == 1 ? " partition" : " partitions"); }

}  // namespace

uint32_t Scene::PartitionsOf(uint32_t node) const {
  return static_cast<uint32_t>(std::ranges::count(primaries, node));
}

uint32_t Scene::Uncopied() const { return static_cast<uint32_t>(std::ranges::count(copied, false)); }

Scene MakeScene(const pb::ClusterStatus& status, const pb::ClusterConfig& config) {
  Scene scene;
  for (const pb::NodeStatus& node : status.node()) {
    Scene::Node& seen = scene.nodes[node.name()];
    // A worker that is started again is another node, which may have the name of one that is dead for long.
    if (seen.state == "alive" && node.state() != "alive") continue;
    seen = {.role = node.role(), .state = node.state(), .host = node.host(), .pid = node.pid(), .node = node.node()};
    scene.names[node.node()] = node.name();
  }
  for (const pb::PartitionConfig& partition : config.partition()) {
    scene.primaries.push_back(partition.primary());
    scene.copied.push_back(std::ranges::any_of(partition.replica(), &pb::Replica::in_sync));
  }
  for (const pb::JobStatus& job : status.job()) {
    scene.training = scene.training || job.phase() == pb::RUNNING;
    scene.work_done += job.work_done();
  }
  scene.scheduler_epoch = status.scheduler_epoch();
  scene.scheduler_comes_back = status.silence_ms() > 0;
  return scene;
}

std::vector<std::string> WhatHappened(const Scene& before, const Scene& after) {
  std::vector<std::string> lines;
  if (after.scheduler_epoch != before.scheduler_epoch) lines.push_back("the scheduler was started again");
  for (const auto& [name, node] : after.nodes) {
    const auto known = before.nodes.find(name);
    if (known == before.nodes.end()) {
      if (node.state == "alive") lines.push_back(StrCat(name, " is there, process ", node.pid));
      continue;
    }
    const bool restarted = node.state == "alive" && node.pid != known->second.pid;
    if (restarted) {
      lines.push_back(StrCat(name, " is back, as process ", node.pid));
    } else if (node.state != known->second.state) {
      lines.push_back(StrCat(name, node.state == "alive" ? " is heard again" : " is " + node.state));
    }
  }
  std::map<uint32_t, std::map<uint32_t, uint32_t>> moved;  // to -> from -> partitions
  for (size_t p = 0; p < std::min(before.primaries.size(), after.primaries.size()); ++p) {
    if (before.primaries[p] != after.primaries[p]) ++moved[after.primaries[p]][before.primaries[p]];
  }
  const auto name_of = [&](uint32_t node) {
    for (const Scene* scene : {&after, &before}) {
      if (const auto name = scene->names.find(node); name != scene->names.end()) return name->second;
    }
    return StrCat("node ", node);
  };
  for (const auto& [to, all] : moved) {
    for (const auto& [from, count] : all) {
      lines.push_back(StrCat(name_of(to), " took over ", Partitions(count), " of ", name_of(from)));
    }
  }
  if (before.Uncopied() > 0 && after.Uncopied() == 0) {
    lines.push_back("every partition has a copy in sync again");
  } else if (before.Uncopied() == 0 && after.Uncopied() > 0) {
    lines.push_back(StrCat(Partitions(after.Uncopied()), after.Uncopied() == 1 ? " has" : " have",
                           " no copy in sync for now"));
  }
  return lines;
}

}  // namespace sheaf::cli
