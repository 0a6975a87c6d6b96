#!/bin/sh
# Builds every part of the node that Debian does not have, from the module in the working
# folder into $1. Runs inside the node's own rootfs, with its compiler.
set -eu
out=$1
export CGO_ENABLED=0 GOTOOLCHAIN=local GOFLAGS="-buildvcs=false -trimpath -mod=readonly"

version() { go list -m -f '{{if .Replace}}{{.Replace.Version}}{{else}}{{.Version}}{{end}}' "$1"; }

kubernetes=$(version k8s.io/kubernetes)
minor=$(echo "$kubernetes" | cut -d. -f2)
helm3=$(version helm.sh/helm/v3)
helm4=$(version helm.sh/helm/v4)
stamp=k8s.io/component-base/version
# Without the stamp the API server calls itself v0.0.0, and kubectl and helm warn about it.
echo "building Kubernetes $kubernetes and CoreDNS $(version github.com/coredns/coredns) with $(go version)"
go build -v -ldflags "-s -w -X $stamp.gitVersion=$kubernetes -X $stamp.gitMajor=1 -X $stamp.gitMinor=$minor" -o "$out/node" .
echo "building helm $helm4"
go build -v -ldflags "-s -w -X helm.sh/helm/v4/internal/version.version=$helm4" -o "$out/helm4" helm.sh/helm/v4/cmd/helm
echo "building helm $helm3"
chartutil=helm.sh/helm/v3/pkg/chartutil
rules=helm.sh/helm/v3/pkg/lint/rules
go build -v -ldflags "-s -w -X helm.sh/helm/v3/internal/version.version=$helm3 \
  -X $chartutil.k8sVersionMajor=1 -X $chartutil.k8sVersionMinor=$minor \
  -X $rules.k8sVersionMajor=1 -X $rules.k8sVersionMinor=$minor" -o "$out/helm3" helm.sh/helm/v3/cmd/helm
echo "building pause"
gcc -O2 -static -o "$out/pause" "$(go list -m -f '{{.Dir}}' k8s.io/kubernetes)/build/pause/linux/pause.c"
for name in kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl coredns provisioner; do
  ln -sf node "$out/$name"
done
