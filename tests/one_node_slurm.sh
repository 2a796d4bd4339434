#!/bin/bash
# Runs a command beside a Slurm cluster of this machine alone, of its own daemons, in a new folder:
#   one_node_slurm.sh FOLDER COMMAND [ARGUMENTS]
# The command's exit code is this program's. 77: Slurm is not installed.
set -euo pipefail
PATH=$PATH:/usr/sbin

folder=$1
shift
command -v slurmctld >/dev/null && command -v slurmd >/dev/null || exit 77
mkdir -p "$folder"/state
spool=$(mktemp -d /tmp/slurmd.XXXXXX)  # sockets lie there, whose paths may have 108 bytes
host=$(hostname -s)

# Two ports that nobody listens to.
read -r control node < <(python3 -c '
import socket
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(s.getsockname()[1] for s in held))')

export SLURM_CONF=$folder/slurm.conf
cat >"$SLURM_CONF" <<CONF
ClusterName=one
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$control
SlurmdPort=$node
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/none
# A job that is queued again waits as long as its old credential lives.
AuthInfo=cred_expire=5
CredType=cred/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_res
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=2,batch_sched_delay=0,bf_interval=2
ReturnToService=2
MpiDefault=none
KillWait=5
StateSaveLocation=$folder/state
SlurmdSpoolDir=$spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc --all)
PartitionName=all Nodes=ALL Default=YES State=UP
CONF

slurmctld -D -c 2>/dev/null &
daemons=($!)
slurmd -D -c -N "$host" 2>/dev/null &
daemons+=($!)
trap 'kill "${daemons[@]}" 2>/dev/null || true; wait; rm -rf "$spool"' EXIT

for ((second = 0; ; ++second)); do
  state=$(sinfo --noheader --format=%t 2>/dev/null || true)
  [[ $state == idle ]] && break
  if ((second == 60)); then
    echo "one_node_slurm.sh: the node is '$state' after a minute." >&2
    tail -n 20 "$folder"/*.log >&2
    exit 1
  fi
  sleep 1
done
"$@"
