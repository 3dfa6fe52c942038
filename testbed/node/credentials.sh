# Certificates and kubeconfigs of a node; sourced by up. A cluster's authority lives as long as the cluster.
# shellcheck shell=bash
new_key() { openssl ecparam -name prime256v1 -genkey -noout -out "$state/pki/$1.key"; }

# certificate NAME USER GROUP ALTERNATIVES
certificate() {
  new_key "$1"
  openssl req -new -key "$state/pki/$1.key" -subj "/O=$3/CN=$2" -out "$state/pki/$1.csr"
  openssl x509 -req -days 365 -in "$state/pki/$1.csr" -CA "$state/pki/ca.crt" -CAkey "$state/pki/ca.key" \
    -set_serial "0x$(openssl rand -hex 8)" -out "$state/pki/$1.crt" \
    -extfile <(printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth,clientAuth\n' "$4") 2> /dev/null
}

# client NAME USER GROUP: a certificate and the kubeconfig NAME.conf
client() {
  certificate "$1" "$2" "$3" DNS:client
  (umask 077 && cat > "$state/$1.conf") << YAML
apiVersion: v1
kind: Config
clusters: [{name: testbed, cluster: {server: "https://$node_ip:6443", certificate-authority: "$state/pki/ca.crt"}}]
users: [{name: $1, user: {client-certificate: "$state/pki/$1.crt", client-key: "$state/pki/$1.key"}}]
contexts: [{name: testbed, context: {cluster: testbed, user: $1}}]
current-context: testbed
YAML
}

write_credentials() {
  mkdir -p "$state/pki"
  new_key ca
  openssl req -x509 -new -key "$state/pki/ca.key" -subj /CN=batchyard-testbed -days 365 -out "$state/pki/ca.crt"
  new_key accounts
  certificate api-server kube-apiserver testbed \
    "IP:$node_ip,IP:127.0.0.1,IP:$api_service_ip,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc"
  client admin admin system:masters
  client controllers system:kube-controller-manager testbed
  client scheduler system:kube-scheduler testbed
  client proxy system:kube-proxy testbed
  client dns system:coredns testbed
  # logs and exec go to the kubelet by the node's address
  client kubelet system:node:node1 system:nodes
  certificate kubelet system:node:node1 system:nodes "DNS:node1,IP:$node_ip"
}
