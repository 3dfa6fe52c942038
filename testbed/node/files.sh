# Configuration files of a node's parts; sourced by up.
# shellcheck shell=bash
write_files() {
  mkdir -p "$state/cni" "$state/containerd"
  echo "nameserver 127.0.0.1" > "$state/resolv.conf" # pods that ask for the node's DNS get none: nothing leaves
  # No cgroups of their own for QoS classes: the machine may be a container itself that can't make any.
  cat > "$state/kubelet.yaml" << YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: "$state/pki/ca.crt"}}
authorization: {mode: Webhook}
tlsCertFile: "$state/pki/kubelet.crt"
tlsPrivateKeyFile: "$state/pki/kubelet.key"
containerRuntimeEndpoint: "unix://$containerd_socket"
clusterDNS: ["$dns_ip"]
clusterDomain: cluster.local
resolvConf: "$state/resolv.conf"
cgroupDriver: cgroupfs
cgroupRoot: /
cgroupsPerQOS: false
enforceNodeAllocatable: []
failCgroupV1: false
failSwapOn: false
evictionHard: {nodefs.available: "1%", imagefs.available: "1%"}
syncFrequency: 10s
YAML
  cat > "$state/containerd.toml" << TOML
version = 2
root = "$state/containerd/root"
state = "$state/containerd/state"
[grpc]
address = "$containerd_socket"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "localhost/pause:1"
restrict_oom_score_adj = true  # lowering the score takes a capability that a machine in a container lacks
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "$state/cni"
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
TOML
  cat > "$state/cni/pods.conflist" << JSON
{"cniVersion": "1.0.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "pods0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "ranges": [[{"subnet": "$pod_range"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
JSON
  cat > "$state/Corefile" << CORE
.:53 {
    bind $dns_ip
    errors
    ready 127.0.0.1:8182
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        kubeconfig $state/dns.conf
        fallthrough in-addr.arpa ip6.arpa
    }
    cache 5
}
CORE
}
