//! The machine below a cluster, broken on purpose: its programs killed, its links cut, its disks
//! filled, its state of long ago put back. All of it happens inside the node's own namespaces.

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;

use super::clients::{run, variable};

/// What keeps Kubernetes' state and answers for it.
pub const CONTROL_PLANE: [&str; 2] = ["etcd", "kube-apiserver"];
/// What remembers what it last heard, and is started again by who restores a cluster.
const REMEMBERING: [&str; 3] = ["kube-controller-manager", "kube-scheduler", "kubelet"];
/// Every program of the node, in the order of their starts.
const PROGRAMS: [&str; 9] = [
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "containerd",
    "kubelet",
    "kube-proxy",
    "kube-scheduler",
    "coredns",
    "provisioner",
];
/// Where etcd answers programs of the node.
const ETCD: &str = "http://127.0.0.1:2379";
/// Where the API server does.
const API_SERVER_PORT: u16 = 6443;
/// What starts no more while it has a file here.
const HELD: &str = "/run/held";

/// Runs a script as root inside the node and answers what it printed.
///
/// # Errors
/// When it fails, with what it wrote to standard error.
pub async fn inside(script: &str, arguments: &[&str]) -> anyhow::Result<String> {
    run(&node()?, &[&["sh", "-euc", script, "sh"], arguments].concat(), "").await
}

/// The words that run a program inside the node.
fn node() -> anyhow::Result<Vec<String>> {
    Ok(variable("TEST_NODE")?.split_whitespace().map(str::to_owned).collect())
}

/// SIGKILL to programs of the node, which are started again a second later.
///
/// # Errors
/// When one does not run.
pub async fn kill(programs: &[&str]) -> anyhow::Result<()> {
    // The kernel keeps 15 characters of a name.
    const KILL: &str = r#"for name; do
        pid=$(pgrep --parent 1 --exact "$(printf %.15s "$name")")
        kill -KILL $pid
        while kill -0 $pid 2>/dev/null; do sleep 0.05; done
    done"#;
    inside(KILL, programs).await.map(drop)
}

/// SIGKILL to the processes of this name in a pod's containers; answers how many there were.
///
/// # Errors
/// When the node cannot be entered.
pub async fn kill_in_pod(pod: &Pod, name: &str) -> anyhow::Result<usize> {
    const KILL: &str = r#"for folder in /proc/[0-9]*; do
        if [ "$(cat $folder/comm 2>/dev/null)" = "$2" ] && grep -q "$1" $folder/cgroup; then
            kill -KILL ${folder#/proc/} && echo killed
        fi
    done"#;
    let uid = pod.uid().context("a pod without uid")?;
    Ok(inside(KILL, &[&uid, name]).await?.lines().count())
}

/// Whom a cut keeps apart.
pub enum Cut<'a> {
    /// These pods and the API server.
    ApiServer(&'a [String]),
    /// These pods and this one.
    Pods(&'a [String], &'a str),
}

/// A cut that lasts until it is mended.
#[must_use]
pub struct Severed(String);

/// Loses every packet between these from now on, without a word to either.
///
/// # Errors
/// When the node takes no such rule.
pub async fn cut(cut: Cut<'_>) -> anyhow::Result<Severed> {
    const TABLE: &str = r#"nft add table inet "$1"
        nft add chain inet "$1" input '{ type filter hook input priority -300; }'
        nft add chain inet "$1" forward '{ type filter hook forward priority -300; }'"#;
    const FROM_API_SERVER: &str = r#"table=$1 port=$2; shift 2
        for pod; do nft add rule inet "$table" input ip saddr "$pod" tcp dport "$port" drop; done"#;
    const FROM_POD: &str = r#"table=$1 other=$2; shift 2
        for pod; do
            nft add rule inet "$table" forward ip saddr "$pod" ip daddr "$other" drop
            nft add rule inet "$table" forward ip saddr "$other" ip daddr "$pod" drop
        done"#;
    let table = format!("severed-{:08x}", rand::random::<u32>());
    let port = API_SERVER_PORT.to_string();
    inside(TABLE, &[&table]).await?;
    let (script, other, pods) = match cut {
        Cut::ApiServer(pods) => (FROM_API_SERVER, port.as_str(), pods),
        Cut::Pods(pods, other) => (FROM_POD, other, pods),
    };
    let pods: Vec<&str> = pods.iter().map(String::as_str).collect();
    inside(script, &[&[table.as_str(), other], &pods[..]].concat()).await?;
    Ok(Severed(table))
}

impl Severed {
    /// Ends it.
    ///
    /// # Errors
    /// When the node has none such.
    pub async fn mend(self) -> anyhow::Result<()> {
        inside(r#"nft delete table inet "$1""#, &[&self.0]).await.map(drop)
    }
}

/// A copy of all that Kubernetes knows, as etcd's own program for backups takes it; the file lies
/// inside the node.
///
/// # Errors
/// When etcd does not give it.
pub async fn snapshot() -> anyhow::Result<String> {
    const KEEP: &str = r#"file=$(mktemp /tmp/snapshot-XXXXXX)
        sed 's/.*"blob":"\([^"]*\)".*/\1/' | while read -r blob; do
            printf %s "$blob" | base64 --decode
        done >"$file"
        etcdutl snapshot status "$file" >&2
        echo "$file""#;
    let request = reqwest::Client::new().post(format!("{ETCD}/v3/maintenance/snapshot")).body("{}");
    // One JSON object a line, each with a piece of the file; the last piece is its checksum.
    let pieces = request.send().await?.error_for_status()?.text().await?;
    Ok(run(&node()?, &["sh", "-euc", KEEP], &pieces).await?.trim().to_owned())
}

/// Puts a snapshot in the place of what Kubernetes knows, as etcd's documentation tells for
/// Kubernetes: under numbers that no client has seen, so that all of them read anew. Then starts
/// again what Kubernetes' documentation names.
///
/// # Errors
/// When etcd's program refuses it.
pub async fn restore(snapshot: &str) -> anyhow::Result<()> {
    const RESTORE: &str = r#"etcdutl snapshot restore "$1" --data-dir /tmp/restored --bump-revision 1000000000 --mark-compacted
        rm -rf /var/lib/etcd/member
        mv /tmp/restored/member /var/lib/etcd/
        rm -rf /tmp/restored"#;
    hold(&CONTROL_PLANE).await?;
    kill(&["kube-apiserver", "etcd"]).await?;
    inside(RESTORE, &[snapshot]).await?;
    release().await?;
    kill(&REMEMBERING).await
}

async fn hold(programs: &[&str]) -> anyhow::Result<()> {
    inside(&format!(r#"for name; do : >{HELD}/"$name"; done"#), programs).await.map(drop)
}

async fn release() -> anyhow::Result<()> {
    inside(&format!("rm -f {HELD}/*"), &[]).await.map(drop)
}

/// What of a power cut and a boot this node can have: every process ends without a word, what lay
/// in memory is gone (/run, /tmp, mounts, network devices and their rules), what lay on disks is
/// there, and every program starts anew. The kernel itself goes on, with the network namespace
/// and the first process, which does nothing but start the others.
///
/// # Errors
/// When the node does not come to it.
pub async fn reboot() -> anyhow::Result<()> {
    // Where the first process is another one, this would not be a node of ours.
    const REBOOT: &str = r#"tr '\0' ' ' </proc/1/cmdline | grep -q ' internal node '
        for round in 1 2 3; do
            for folder in /proc/[0-9]*; do
                pid=${folder#/proc/}
                [ "$pid" = 1 ] || [ "$pid" = $$ ] || kill -KILL "$pid" 2>/dev/null || :
            done
            sleep 0.2
        done
        # Those of another node of this host are not ours.
        for place in /sys/fs/cgroup/*/"authservice-node-$(cat /proc/sys/kernel/hostname)" /sys/fs/cgroup; do
            [ ! -d "$place/kubepods" ] || find "$place/kubepods" -depth -type d -exec rmdir {} + || :
        done
        nft flush ruleset
        conntrack --flush 2>/dev/null || :
        while read -r _ target _; do
            case $target in /run/*|/var/lib/kubelet/*|/var/lib/containerd/*) echo "$target" ;; esac
        done </proc/mounts | tac | while read -r target; do umount --lazy "$target"; done
        find /run /tmp -mindepth 1 -not -path '/run/held*' -delete
        for link in $(ip -brief link show type veth | sed 's/[@ ].*//'); do ip link delete "$link" || :; done"#;
    hold(&PROGRAMS).await?;
    inside(REBOOT, &[]).await?;
    release().await
}

/// Gives the node a small disk of its own at this path.
///
/// # Errors
/// When it cannot be mounted.
pub async fn small_disk(path: &str, mebibytes: u32) -> anyhow::Result<()> {
    const MOUNT: &str = r#"mkdir -p "$1"; mount -t tmpfs -o "size=$2m" small "$1""#;
    inside(MOUNT, &[path, &mebibytes.to_string()]).await.map(drop)
}

/// Takes the disk away with all it holds.
///
/// # Errors
/// When there is none.
pub async fn remove_disk(path: &str) -> anyhow::Result<()> {
    inside(r#"umount --lazy "$1"; rmdir "$1""#, &[path]).await.map(drop)
}

/// Writes a file until the disk is full.
///
/// # Errors
/// When the disk did not fill.
pub async fn fill(path: &str) -> anyhow::Result<()> {
    const FILL: &str = r#"! dd if=/dev/zero of="$1/filler" bs=64K 2>/dev/null
        ! dd if=/dev/zero of="$1/rest" bs=1K 2>/dev/null"#;
    inside(FILL, &[path]).await.map(drop)
}

/// Takes those files away again.
///
/// # Errors
/// When they are not there.
pub async fn make_room(path: &str) -> anyhow::Result<()> {
    inside(r#"rm "$1/filler" "$1/rest""#, &[path]).await.map(drop)
}
