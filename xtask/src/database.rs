//! Throw-away database servers for tests: real `MySQL` and `MariaDB` from their rootfses, on a
//! loopback port of the host, with data in memory.

mod galera;
#[path = "../../tests/support/ports.rs"]
#[expect(unreachable_pub, reason = "shared with the tests")]
mod ports;

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::Context as _;

use crate::cache::{self, Key};
use crate::parts::{self, Rootfs};
use crate::progress::{self, Step};
use crate::sandbox::{Bind, View};

pub use self::galera::Galera;

/// How long a server may take to answer.
const START_LIMIT: Duration = Duration::from_mins(1);

/// Whose server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// Oracle's `MySQL`.
    Mysql,
    /// `MariaDB`.
    Mariadb,
    /// The oldest `MariaDB` that is supported.
    OldMariadb,
}

impl Engine {
    /// The rootfs that has this engine's server.
    #[must_use]
    pub fn rootfs(self) -> Rootfs {
        match self {
            Self::Mysql => Rootfs::Mysql,
            Self::Mariadb => Rootfs::Mariadb,
            Self::OldMariadb => Rootfs::OldMariadb,
        }
    }

    fn server(self) -> &'static str {
        match self {
            Self::Mysql => "mysqld",
            Self::Mariadb | Self::OldMariadb => "mariadbd",
        }
    }

    /// Fills an empty data folder; the first account is root without a password.
    fn initialize(self) -> &'static str {
        match self {
            Self::Mysql => {
                "exec mysqld --no-defaults --initialize-insecure --user=root --datadir=/data --secure-file-priv="
            }
            // Without --force it insists on resolving the host's name, which nothing needs.
            Self::Mariadb | Self::OldMariadb => {
                "exec mariadb-install-db --no-defaults --user=root --datadir=/data --auth-root-authentication-method=normal \
                 --skip-test-db --skip-name-resolve --force"
            }
        }
    }

    /// What the first start does before it sets root's password.
    fn tidy(self) -> &'static str {
        match self {
            Self::Mysql => "",
            // It makes a root without password for every name of this host.
            Self::Mariadb | Self::OldMariadb => {
                "DELETE FROM mysql.global_priv WHERE User = '' OR (User = 'root' AND Host <> 'localhost');\nFLUSH PRIVILEGES;\n"
            }
        }
    }

    /// Options of this engine alone; the rest is in [`start`].
    fn options(self) -> &'static str {
        match self {
            // Its second protocol would want a second port.
            Self::Mysql => "--mysqlx=OFF --innodb-redo-log-capacity=67108864 --disable-log-bin",
            Self::Mariadb | Self::OldMariadb => "--innodb-log-file-size=64M",
        }
    }
}

/// A running server; it ends with this value, and with this process at the latest.
#[derive(Debug)]
pub struct Database {
    engine: Engine,
    server: Child,
    port: u16,
    root_password: String,
    log: PathBuf,
}

impl Database {
    /// Where it is, and the password of `root` from any address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("mysql://root:{}@127.0.0.1:{}", self.root_password, self.port)
    }

    /// Its port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The password of `root`, from any address.
    #[must_use]
    pub fn root_password(&self) -> &str {
        &self.root_password
    }

    /// Whose server it is.
    #[must_use]
    pub fn engine(&self) -> Engine {
        self.engine
    }

    /// What the server logged.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Ends it; its data are gone.
    pub fn stop(mut self) -> anyhow::Result<()> {
        self.end()
    }

    fn end(&mut self) -> anyhow::Result<()> {
        if self.server.try_wait()?.is_none() {
            crate::sandbox::end(&mut self.server)?;
        }
        Ok(())
    }

    /// Waits until the log has this sign that the server takes connections; a probe by connecting would
    /// count as a broken connection and in the end block this host.
    fn wait_until_ready(&mut self, what: &str, sign: &str) -> anyhow::Result<()> {
        let mut step = Step::start(what);
        while !fs::read_to_string(&self.log).is_ok_and(|log| log.contains(sign)) {
            if let Some(status) = self.server.try_wait()? {
                anyhow::bail!("{} ended ({status})\n{}", self.engine.server(), progress::tail(&self.log));
            }
            anyhow::ensure!(
                step.elapsed() < START_LIMIT,
                "{} does not answer on port {}\n{}",
                self.engine.server(),
                self.port,
                progress::tail(&self.log)
            );
            step.tick("");
            std::thread::sleep(Duration::from_millis(50));
        }
        step.quiet();
        Ok(())
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

/// Starts a server with empty tables and waits until it takes connections (a second or two).
///
/// # Errors
/// When it does not start; the error has the end of its log.
pub fn start(engine: Engine) -> anyhow::Result<Database> {
    let rootfs = parts::rootfs(engine.rootfs())?;
    let initial = initialized(engine, engine.rootfs().name(), &rootfs)?;
    // Free at this moment; the server says so if somebody else was faster.
    let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
    let root_password = random_password()?;
    let scratch = cache::folder("scratch")?;
    let name = format!("{}-{port}", engine.server());
    let log = progress::log_path(&name)?;
    // By file, so that the password is in no process list; gone once the server has read it.
    let secrets = tempfile::Builder::new().prefix("database-").tempdir_in(scratch)?;
    fs::write(secrets.path().join("accounts.sql"), accounts(engine, &root_password))?;
    let script = format!(
        "set -e\ncp -a /initial/. /tmp/data\ncp /secrets/accounts.sql /tmp/accounts.sql\n\
         exec {} --no-defaults --user=root --datadir=/tmp/data --tmpdir=/tmp --socket=/tmp/server.sock --pid-file=/tmp/server.pid \
         --bind-address=127.0.0.1 --port={port} --init-file=/tmp/accounts.sql --secure-file-priv= --skip-name-resolve \
         --max-connections=500 --max-connect-errors=1000000000 --innodb-flush-log-at-trx-commit=0 --innodb-buffer-pool-size=64M {}",
        engine.server(),
        engine.options()
    );
    let output = fs::File::create(&log)?;
    let view = View::of(rootfs)?
        .bind(Bind::read_only(initial, "/initial"))
        .bind(Bind::read_only(secrets.path(), "/secrets"));
    let server = view
        .command("sh")?
        .args(["-c", &script])
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()
        .context("start a sandbox")?;
    let mut database = Database { engine, server, port, root_password, log };
    database.wait_until_ready(&format!("starting {}", engine.server()), "ready for connections")?;
    Ok(database)
}

/// What the first start runs: the accounts, one of them for root from any address.
fn accounts(engine: Engine, root_password: &str) -> String {
    format!(
        "{}ALTER USER 'root'@'localhost' IDENTIFIED BY '{root_password}';\n\
         CREATE USER 'root'@'%' IDENTIFIED BY '{root_password}';\n\
         GRANT ALL PRIVILEGES ON *.* TO 'root'@'%' WITH GRANT OPTION;\n",
        engine.tidy()
    )
}

/// A data folder that was initialised once, to be copied.
fn initialized(engine: Engine, name: &str, rootfs: &Path) -> anyhow::Result<PathBuf> {
    let key = Key::of(engine.initialize()).and(rootfs.as_os_str().as_encoded_bytes());
    cache::part(&format!("data-{name}"), key, |folder| {
        let view = View::of(rootfs)?.bind(Bind::writable(folder, "/data"));
        let mut command = view.command("sh")?;
        command.args(["-c", engine.initialize()]);
        let log = progress::log_path(&format!("data-{name}"))?;
        progress::run(&format!("initialising {}", engine.server()), &log, &mut command)
    })
}

/// 32 hexadecimal digits from the kernel's generator.
fn random_password() -> anyhow::Result<String> {
    use std::io::Read as _;
    let mut bytes = [0; 16];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(cache::hex(&bytes))
}
