# What the scripts of the test bed agree on; sourced, never run.
# shellcheck shell=bash disable=SC2034  # used by those who source it
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
state=${CLUSTER_DIR:-$here/../.work/cluster}
mkdir -p "$state"
state=$(cd "$state" && pwd)
bin=$state/bin
# A link of two addresses between the machine and the node, and the networks behind it. Loopback never leaves the node.
link=batchyard0 machine_ip=192.168.98.1 node_ip=192.168.98.2
services=10.98.0.0/16 api_service_ip=10.98.0.1 dns_ip=10.98.0.10
pods=10.246.0.0/16 pod_range=10.246.0.0/24
kubeconfig=$state/admin.conf
containerd_socket=$state/containerd/containerd.sock

die() { echo "${0##*/}: $*" >&2; exit 1; }
kubectl() { "$bin/kubectl" --kubeconfig "$kubeconfig" "$@"; }
ctr() { command ctr --address "$containerd_socket" --namespace k8s.io "$@"; }
# Runs a command every 0.1 s until it succeeds; after $1 seconds says that $2 did not come.
until_ok() {
  local left=$(($1 * 10)) what=$2
  shift 2
  until "$@" > /dev/null 2>&1; do
    ((left-- > 0)) || die "$what did not come up in time; the logs are in $state/log"
    sleep 0.1
  done
}
node_pid() { [[ -s $state/node.pid ]] && kill -0 "$(< "$state/node.pid")" 2> /dev/null && cat "$state/node.pid"; }
