//! The configuration files of the node's components, as text; nothing here touches the host.

use serde_json::{Value, json};

use super::layout::{CONFIGURATION, NODE_ADDRESS, POD_RANGE, PROGRAMS};

/// The file names and contents that go into [`CONFIGURATION`].
///
/// `cgroup_root` is the cgroup that pods live below; on a host with cgroup v1 the kubelet must
/// be told that this is meant.
pub(super) fn files(node: &str, cgroup_root: &str, cgroup_v1: bool) -> Vec<(&'static str, String)> {
    vec![
        ("audit-policy.yaml", audit_policy().to_string()),
        ("kubelet.yaml", kubelet(cgroup_root, cgroup_v1).to_string()),
        ("kube-proxy.yaml", proxy(node).to_string()),
        ("containerd.toml", containerd()),
        ("cni.d/pods.conflist", network().to_string()),
        ("Corefile", corefile()),
        ("pod-resolv.conf", format!("nameserver {NODE_ADDRESS}\n")),
    ]
}

/// Every write, so that "no writes" can be read off the log, and what anybody but Kubernetes
/// and administrators reads or is refused.
fn audit_policy() -> Value {
    let reads = ["get", "list", "watch"];
    json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [
            {
                "level": "None",
                "verbs": reads,
                "userGroups": ["system:masters", "system:nodes", "system:serviceaccounts:kube-system"],
            },
            {
                "level": "None",
                "verbs": reads,
                "users": [
                    "coredns",
                    "provisioner",
                    "system:apiserver",
                    "system:kube-controller-manager",
                    "system:kube-proxy",
                    "system:kube-scheduler",
                ],
            },
            {"level": "Metadata"},
        ],
    })
}

fn kubelet(cgroup_root: &str, cgroup_v1: bool) -> Value {
    let mut config = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": format!("{CONFIGURATION}/ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroup_root,
        "clusterDNS": [NODE_ADDRESS],
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        // A developer's disk is often nearly full, and that is no reason to evict.
        "evictionHard": {
            "imagefs.available": "0%",
            "imagefs.inodesFree": "0%",
            "memory.available": "0%",
            "nodefs.available": "0%",
            "nodefs.inodesFree": "0%",
        },
        "failSwapOn": false,
        "imageGCHighThresholdPercent": 100,
        "resolvConf": format!("{CONFIGURATION}/pod-resolv.conf"),
        "serializeImagePulls": false,
        "tlsCertFile": format!("{CONFIGURATION}/kubelet-server.crt"),
        "tlsPrivateKeyFile": format!("{CONFIGURATION}/kubelet-server.key"),
    });
    if cgroup_v1 {
        config["failCgroupV1"] = json!(false);
    }
    config
}

fn proxy(node: &str) -> Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": format!("{CONFIGURATION}/kube-proxy.kubeconfig")},
        "clusterCIDR": POD_RANGE,
        // The limits belong to the host's kernel and are not ours to set.
        "conntrack": {"maxPerCore": 0, "min": 0},
        "hostnameOverride": node,
        "mode": "nftables",
    })
}

fn containerd() -> String {
    format!(
        r#"version = 3

[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{PAUSE_IMAGE}"

[plugins."io.containerd.cri.v1.runtime"]
  # Without CAP_SYS_RESOURCE, as in many containers, every sandbox would fail on its score.
  restrict_oom_score_adj = true

[plugins."io.containerd.cri.v1.runtime".cni]
  bin_dirs = ["/usr/lib/cni"]
  conf_dir = "{CONFIGURATION}/cni.d"
"#
    )
}

/// The image of the process that holds a pod's namespaces.
pub(crate) const PAUSE_IMAGE: &str = "localhost/pause:node";

/// Each pod gets a link of its own to the node, so that all traffic is routed and no bridge
/// can deliver an answer past the address translation of Services.
fn network() -> Value {
    json!({
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            {
                "type": "ptp",
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": "10.244.0.0/24"}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}, "backend": "nftables"},
        ],
    })
}

fn corefile() -> String {
    format!(
        ".:53 {{
    bind {NODE_ADDRESS}
    errors
    ready 127.0.0.1:8181
    cache 5
    kubernetes cluster.local in-addr.arpa ip6.arpa {{
        kubeconfig {CONFIGURATION}/coredns.kubeconfig
        ttl 5
    }}
    nxdomain
}}
"
    )
}

/// One program of the node: its name, its arguments, and the address that must accept
/// connections before it starts.
pub(super) struct Component {
    pub(super) name: &'static str,
    pub(super) program: String,
    pub(super) arguments: Vec<String>,
    pub(super) after: Option<&'static str>,
}

/// Where etcd listens.
const ETCD: &str = "127.0.0.1:2379";
/// Where the API server listens, for programs of the node.
const LOCAL_API_SERVER: &str = "127.0.0.1:6443";

fn component(name: &'static str, after: Option<&'static str>, arguments: &[&str]) -> Component {
    let arguments = arguments.iter().map(|argument| argument.replace('@', CONFIGURATION)).collect();
    Component { name, program: format!("{PROGRAMS}/{name}"), arguments, after }
}

/// etcd and the API server; admission of service accounts is left to a full node, since
/// without controllers no namespace has one.
pub(super) fn control_plane(service_accounts: bool) -> Vec<Component> {
    let mut etcd = component(
        "etcd",
        None,
        &[
            "--data-dir=/var/lib/etcd",
            "--unsafe-no-fsync",
            "--log-level=warn",
            "--quota-backend-bytes=4294967296",
        ],
    );
    "/usr/bin/etcd".clone_into(&mut etcd.program);
    let mut server = component(
        "kube-apiserver",
        Some(ETCD),
        &[
            "--advertise-address=10.10.0.2",
            "--allow-privileged=true",
            "--audit-log-maxsize=10000",
            "--audit-log-path=/var/log/audit/audit.log",
            "--audit-policy-file=@/audit-policy.yaml",
            "--authorization-mode=Node,RBAC",
            "--client-ca-file=@/ca.crt",
            "--enable-admission-plugins=NodeRestriction",
            "--etcd-servers=http://127.0.0.1:2379",
            "--kubelet-client-certificate=@/apiserver-kubelet-client.crt",
            "--kubelet-client-key=@/apiserver-kubelet-client.key",
            "--kubelet-preferred-address-types=InternalIP",
            // Tests run dozens of operators side by side.
            "--max-mutating-requests-inflight=1000",
            "--max-requests-inflight=2000",
            "--profiling=false",
            "--secure-port=6443",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            "--service-account-key-file=@/service-accounts.pub",
            "--service-account-signing-key-file=@/service-accounts.key",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--tls-cert-file=@/apiserver.crt",
            "--tls-private-key-file=@/apiserver.key",
        ],
    );
    if !service_accounts {
        server.arguments.push("--disable-admission-plugins=ServiceAccount".to_owned());
    }
    vec![etcd, server]
}

/// The controller-manager, with all controllers or with those named.
pub(super) fn controllers(only: Option<&str>) -> Component {
    let mut manager = component(
        "kube-controller-manager",
        Some(LOCAL_API_SERVER),
        &[
            "--bind-address=127.0.0.1",
            "--concurrent-deployment-syncs=20",
            "--concurrent-job-syncs=20",
            "--concurrent-namespace-syncs=20",
            "--concurrent-replicaset-syncs=20",
            "--concurrent-statefulset-syncs=20",
            "--kube-api-burst=2000",
            "--kube-api-qps=1000",
            "--kubeconfig=@/kube-controller-manager.kubeconfig",
            "--leader-elect=false",
            "--profiling=false",
            "--root-ca-file=@/ca.crt",
            "--service-account-private-key-file=@/service-accounts.key",
            "--use-service-account-credentials=true",
        ],
    );
    manager.arguments.extend(only.map(|names| format!("--controllers={names}")));
    manager
}

/// Everything else that a full node runs.
pub(super) fn node(name: &str) -> Vec<Component> {
    let api = Some(LOCAL_API_SERVER);
    let mut containerd = component("containerd", None, &["--config=@/containerd.toml"]);
    "/usr/bin/containerd".clone_into(&mut containerd.program);
    let mut kubelet = component(
        "kubelet",
        api,
        &["--config=@/kubelet.yaml", "--kubeconfig=@/kubelet.kubeconfig", "--node-ip=10.10.0.2"],
    );
    kubelet.arguments.push(format!("--hostname-override={name}"));
    vec![
        containerd,
        kubelet,
        component("kube-proxy", api, &["--config=@/kube-proxy.yaml"]),
        component(
            "kube-scheduler",
            api,
            &[
                "--bind-address=127.0.0.1",
                "--kubeconfig=@/kube-scheduler.kubeconfig",
                "--leader-elect=false",
                "--profiling=false",
            ],
        ),
        component("coredns", api, &["-conf", "@/Corefile"]),
        component("provisioner", api, &["--kubeconfig=@/provisioner.kubeconfig"]),
    ]
}
