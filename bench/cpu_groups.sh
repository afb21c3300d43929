# Control groups that hold a process to a share of one processor. Sourced by the scripts beside it; needs root.
# shellcheck shell=bash
[[ $EUID == 0 ]] || { echo "control groups need root" >&2; exit 1; }
if [[ -f /sys/fs/cgroup/cgroup.controllers ]]; then
  groups=/sys/fs/cgroup version=2
elif [[ -d /sys/fs/cgroup/cpu ]]; then
  groups=/sys/fs/cgroup/cpu version=1
else
  echo "no control groups below /sys/fs/cgroup" >&2
  exit 1
fi

# make_group NAME PERCENT: of one processor, in periods of 10 ms. NAME begins with sheaf-bench-.
make_group() {
  mkdir -p "$groups/$1"
  if ((version == 2)); then
    echo "$(($2 * 100)) 10000" >"$groups/$1/cpu.max"
  else
    echo 10000 >"$groups/$1/cpu.cfs_period_us"
    echo $(($2 * 100)) >"$groups/$1/cpu.cfs_quota_us"
  fi
}

remove_groups() {
  for group in "$groups"/sheaf-bench-*; do [[ ! -d $group ]] || rmdir "$group" || true; done
}
