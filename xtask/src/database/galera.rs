//! A Galera cluster of `MariaDB`: every member takes writes, and what one commits the others apply a
//! moment later.

use std::fs;
use std::process::Stdio;

use anyhow::Context as _;

use super::{Database, Engine, accounts, initialized, ports::free_address, random_password};
use crate::parts::{self, Rootfs};
use crate::sandbox::{Bind, View};
use crate::{cache, progress};

/// Members. Of two, one that loses sight of the other stops, or both go on and part for good; of three,
/// two are more than half and go on.
const MEMBERS: usize = 3;

/// Whose server it is, but for its rootfs.
const ENGINE: Engine = Engine::OldMariadb;

/// A running cluster; it ends with this value, and with this process at the latest.
#[derive(Debug)]
pub struct Galera {
    members: Vec<Database>,
}

/// The ports of one member on 127.0.0.1.
struct Ports {
    /// For clients.
    sql: u16,
    /// For the other members.
    group: u16,
    /// For the writes that it missed.
    writes: u16,
    /// For the whole data of another member.
    data: u16,
}

impl Galera {
    /// Starts members one after the other, since each gets its data from those before it.
    ///
    /// # Errors
    /// When one does not start; the error has the end of its log.
    pub fn start() -> anyhow::Result<Self> {
        let rootfs = parts::rootfs(Rootfs::Galera)?;
        let initial = initialized(ENGINE, Rootfs::Galera.name(), &rootfs)?;
        let root_password = random_password()?;
        let view = View::of(rootfs)?;
        let [first, later @ ..] = [(); MEMBERS].map(|()| Ports::free());
        let start = |view: &View, script: &str, ports: &Ports, number: usize| {
            let what = format!("starting member {number} of {MEMBERS} of a Galera cluster");
            start_member(view, script, ports.sql, &root_password, &what)
        };
        // By file, so that the password is in no process list; gone once the first member has read it.
        let secrets = tempfile::Builder::new().prefix("database-").tempdir_in(cache::folder("scratch")?)?;
        fs::write(secrets.path().join("accounts.sql"), accounts(ENGINE, &root_password))?;
        let with_data = view
            .clone()
            .bind(Bind::read_only(initial, "/initial"))
            .bind(Bind::read_only(secrets.path(), "/secrets"));
        let mut members = vec![start(&with_data, &first_member(&first), &first, 1)?];
        drop(secrets);
        for (index, ports) in later.iter().enumerate() {
            members.push(start(&view, &later_member(ports, first.group), ports, index + 2)?);
        }
        Ok(Self { members })
    }

    /// The servers, each of which takes writes.
    #[must_use]
    pub fn members(&self) -> &[Database] {
        &self.members
    }

    /// Ends it; its data are gone.
    pub fn stop(self) -> anyhow::Result<()> {
        self.members.into_iter().try_for_each(Database::stop)
    }
}

impl Ports {
    fn free() -> Self {
        let port = || free_address().port();
        Self { sql: port(), group: port(), writes: port(), data: port() }
    }
}

fn start_member(
    view: &View,
    script: &str,
    port: u16,
    root_password: &str,
    what: &str,
) -> anyhow::Result<Database> {
    let log = progress::log_path(&format!("galera-{port}"))?;
    let output = fs::File::create(&log)?;
    let server = view
        .command("sh")?
        .args(["-c", script])
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()
        .context("start a sandbox")?;
    let root_password = root_password.to_owned();
    let mut member = Database { engine: ENGINE, server, port, root_password, log };
    member.wait_until_ready(what, "Synchronized with group")?;
    Ok(member)
}

/// Begins a cluster with empty tables.
fn first_member(ports: &Ports) -> String {
    format!(
        "set -e\ncp -a /initial /tmp/data\ncp /secrets/accounts.sql /tmp/accounts.sql\n\
         chown -R mysql /tmp/data /tmp/accounts.sql\n{} --wsrep-new-cluster --wsrep-cluster-address=gcomm:// \
         --init-file=/tmp/accounts.sql\nexit $?",
        server(ports)
    )
}

/// Gets its data from the cluster, accounts included.
fn later_member(ports: &Ports, group: u16) -> String {
    format!(
        "set -e\nmkdir /tmp/data\nchown mysql /tmp/data\n{} --wsrep-cluster-address=gcomm://127.0.0.1:{group}\nexit $?",
        server(ports)
    )
}

/// As the user mysql: the daemon that takes another member's data would give up root's rights. A process
/// that changes its user does not die with its parent any more, so the shell stays, which does, and with
/// which the pid namespace ends.
fn server(Ports { sql, group, writes, data }: &Ports) -> String {
    format!(
        "mariadbd --no-defaults --user=mysql --datadir=/tmp/data --tmpdir=/tmp --socket=/tmp/server.sock \
         --pid-file=/tmp/server.pid --bind-address=127.0.0.1 --port={sql} --secure-file-priv= --skip-name-resolve \
         --max-connections=500 --max-connect-errors=1000000000 --innodb-flush-log-at-trx-commit=0 \
         --innodb-buffer-pool-size=64M --innodb-log-file-size=16M --binlog-format=ROW --innodb-autoinc-lock-mode=2 \
         --wsrep-on=ON --wsrep-provider=/usr/lib/galera/libgalera_smm.so --wsrep-cluster-name=tests \
         --wsrep-node-address=127.0.0.1 --wsrep-sst-method=rsync --wsrep-sst-receive-address=127.0.0.1:{data} \
         '--wsrep-provider-options=base_host=127.0.0.1;gmcast.listen_addr=tcp://127.0.0.1:{group};\
         ist.recv_addr=127.0.0.1:{writes};gcache.size=16M'"
    )
}
