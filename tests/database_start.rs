//! The start command of the managed database on real servers, in containers as a pod would give
//! them: read-only root, user 999, no capabilities, process 1 of its own PID namespace.
//!
//! Needs root, `unshare`, `nsenter`, `chroot`, `ip`, and a root file system for each engine in
//! `TEST_MYSQL_ROOTFS` and `TEST_MARIADB_ROOTFS`; with an older MariaDB in
//! `TEST_OLD_MARIADB_ROOTFS` the upgrade is tested too.
#![allow(clippy::unwrap_used, reason = "a panic is a failed test")]

use std::{
    fs,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use tempfile::TempDir;

const START: &str = include_str!("../src/operator/auth_service/build/mysql-start.sh");
const PROBE: &str = include_str!("../src/operator/auth_service/build/mysql-probe.sh");
const USER: u32 = 999;
/// Quotes, backslashes, an expansion, a statement's end, and a newline that belongs to the password.
const AWKWARD_PASSWORD: &str = "it's \\ \"1\" $(x) `y` %s;\n";

/// `DATABASE_*` as the `StatefulSet` sets them, for the mounts of [`Volume::start`].
const ENVIRONMENT: [&str; 4] = [
    "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
    "DATABASE_VOLUME=/srv",
    "DATABASE_RUN=/run",
    "DATABASE_ROOT_PASSWORD_FILE=/mnt/password",
];

/// $1 root file system, $2 folder of the mounts, $3 start command, then files of the image to hide.
const CONTAINER: &str = r#"
set -eu
root=$1 state=$2 start=$3
shift 3
ip link set lo up
mount --make-rprivate /
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
for hidden in "$@"; do [ ! -e "$root$hidden" ] || mount --bind /dev/null "$root$hidden"; done
mount --bind "$state/volume" "$root/srv"
mount --bind "$state/run" "$root/run"
mount --bind "$state/tmp" "$root/tmp"
mount --bind "$state/secret" "$root/mnt"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
exec chroot "$root" setpriv --reuid=999 --regid=999 --clear-groups --no-new-privs \
    --bounding-set=-all --inh-caps=-all env -i $ENVIRONMENT sh -c "$start"
"#;

#[derive(Clone, Copy)]
enum Engine {
    MySql,
    MariaDb,
}

impl Engine {
    fn rootfs(self) -> PathBuf {
        required(match self {
            Self::MySql => "TEST_MYSQL_ROOTFS",
            Self::MariaDb => "TEST_MARIADB_ROOTFS",
        })
    }

    fn other(self) -> Self {
        match self {
            Self::MySql => Self::MariaDb,
            Self::MariaDb => Self::MySql,
        }
    }
}

fn required(variable: &str) -> PathBuf {
    std::env::var_os(variable).unwrap_or_else(|| panic!("{variable} must name a root file system")).into()
}

/// What outlives a container: the volume, and the emptyDirs and the Secret of its pod.
struct Volume(TempDir);

impl Volume {
    fn new(password: &str) -> Self {
        let memory = Path::new("/dev/shm");
        let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let volume = Self(TempDir::new_in(parent).unwrap());
        for folder in ["volume", "run", "tmp", "secret"] {
            fs::create_dir(volume.path(folder)).unwrap();
            chown(volume.path(folder), Some(USER), Some(USER)).unwrap();
        }
        volume.set_password(password);
        volume
    }

    fn path(&self, below: &str) -> PathBuf {
        self.0.path().join(below)
    }

    /// As kubelet writes an entry: with the newline that people's files end in.
    fn set_password(&self, password: &str) {
        fs::write(self.path("secret/password"), format!("{password}\n")).unwrap();
    }

    /// A pod that was replaced, not restarted: its emptyDirs are new.
    fn replace_pod(&self) {
        fs::remove_dir_all(self.path("run")).unwrap();
        fs::create_dir(self.path("run")).unwrap();
        chown(self.path("run"), Some(USER), Some(USER)).unwrap();
    }

    fn start(&self, rootfs: &Path) -> Container {
        self.start_without(rootfs, &[])
    }

    fn start_without(&self, rootfs: &Path, hidden: &[&str]) -> Container {
        let log = fs::File::create(self.path("log")).unwrap();
        let unshare = Command::new("unshare")
            .args(["--mount", "--pid", "--net", "--fork", "--", "sh", "-c"])
            .arg(CONTAINER.replace("$ENVIRONMENT", &ENVIRONMENT.join(" ")))
            .arg("sh")
            .args([rootfs, self.0.path()])
            .arg(START)
            .args(hidden)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let children = format!("/proc/{0}/task/{0}/children", unshare.id());
        let process_1 = eventually("the container to start", || {
            fs::read_to_string(&children).unwrap_or_default().trim().parse().ok()
        });
        Container { unshare, process_1, rootfs: rootfs.to_owned(), log: self.path("log") }
    }
}

/// A running start command.
struct Container {
    unshare: Child,
    process_1: u32,
    rootfs: PathBuf,
    log: PathBuf,
}

impl Container {
    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    fn signal(&self, name: &str) {
        Command::new("kill")
            .args(["-s", name, &self.process_1.to_string()])
            .stderr(Stdio::null())
            .status()
            .unwrap();
    }

    fn exit_code(&mut self) -> i32 {
        self.unshare.wait().unwrap().code().unwrap()
    }

    /// What the kubelet does to a container that outlives its grace period.
    fn kill(mut self) {
        self.signal("KILL");
        self.unshare.wait().unwrap();
    }

    /// A command within the container, as its user.
    fn exec(&self, environment: &[&str], command: &[&str]) -> Output {
        Command::new("nsenter")
            .args(["-t", &self.process_1.to_string(), "-m", "-p", "-n", "--", "chroot"])
            .arg(&self.rootfs)
            .args(["setpriv", "--reuid=999", "--regid=999", "--clear-groups", "env", "-i"])
            .args(ENVIRONMENT)
            .args(environment)
            .args(command)
            .output()
            .unwrap()
    }

    fn probe(&self, question: &str) -> bool {
        self.exec(&[], &["sh", "-c", PROBE, "sh", question]).status.success()
    }

    fn wait_until_ready(&mut self) {
        let deadline = Instant::now() + Duration::from_mins(1);
        while !self.probe("ready") {
            let ended = self.unshare.try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < deadline, "not ready:\n{}", self.log());
            sleep(Duration::from_millis(100));
        }
    }

    /// The answer to a query of root over TCP, or the error.
    fn query(&self, password: &str, query: &str) -> Result<String, String> {
        let output = self.exec(
            &[&format!("MYSQL_PWD={password}")],
            &["mysql", "--no-defaults", "--host=127.0.0.1", "--user=root", "-BN", "-e", query],
        );
        if output.status.success() {
            Ok(String::from_utf8(output.stdout).unwrap())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if matches!(self.unshare.try_wait(), Ok(None)) {
            self.signal("KILL");
            let _ = self.unshare.wait();
        }
    }
}

fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_mins(1);
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited a minute for {what}");
        sleep(Duration::from_millis(1));
    }
}

const ACCOUNTS: &str = "SELECT DISTINCT CONCAT(user, '@', host) FROM mysql.user \
    WHERE user NOT LIKE 'mysql.%' AND user NOT LIKE 'mariadb.%' ORDER BY 1";

fn the_password_of_the_secret_opens_the_one_root(engine: Engine) {
    let volume = Volume::new(AWKWARD_PASSWORD);
    let mut first = volume.start(&engine.rootfs());
    first.wait_until_ready();
    assert_eq!(
        first.query(AWKWARD_PASSWORD, ACCOUNTS).unwrap(),
        "authservice_health@localhost\nroot@%\nroot@localhost\n"
    );
    first.query(AWKWARD_PASSWORD, "CREATE DATABASE kept").unwrap();
    let refused = first.query("", "SELECT 1").unwrap_err();
    assert!(refused.contains("ERROR 1045"), "{refused}");
    first.signal("TERM");
    assert_eq!(first.exit_code(), 0, "{}", first.log());

    volume.set_password("another");
    let mut second = volume.start(&engine.rootfs());
    second.wait_until_ready();
    assert_eq!(second.query("another", "SHOW DATABASES LIKE 'kept'").unwrap(), "kept\n");
    assert!(second.query(AWKWARD_PASSWORD, "SELECT 1").is_err());
    assert!(second.probe("alive"));
    let log = second.log();
    assert!(!log.contains("another"), "the log tells the password:\n{log}");
}

/// Files that appear one after the other in a first start.
const STEPS: [&str; 8] = [
    "volume/data.unfinished",
    "volume/data.unfinished/ibdata1",
    "volume/data.unfinished/mysql",
    "volume/data",
    "run/accounts.sql",
    "run/mysqld.pid",
    "run/mysqld.sock",
    "run/files/accepts-queries",
];

fn killed_at_each_step_of_the_first_start_it_comes_up(engine: Engine) {
    let rootfs = engine.rootfs();
    let volume = Volume::new("secret");
    for step in STEPS {
        let container = volume.start(&rootfs);
        eventually(step, || volume.path(step).exists().then_some(()));
        container.kill();
        volume.replace_pod();
    }
    for delay in (0..1500).step_by(150) {
        let container = volume.start(&rootfs);
        sleep(Duration::from_millis(delay));
        container.kill();
    }
    let mut container = volume.start(&rootfs);
    container.wait_until_ready();
    assert_eq!(
        container.query("secret", ACCOUNTS).unwrap(),
        "authservice_health@localhost\nroot@%\nroot@localhost\n"
    );
    assert!(!volume.path("volume/data.unfinished").exists());
}

fn killed_at_any_moment_of_initialisation_it_comes_up(engine: Engine) {
    let rootfs = engine.rootfs();
    let volume = Volume::new("secret");
    for delay in (50..1800).step_by(190) {
        let container = volume.start(&rootfs);
        sleep(Duration::from_millis(delay));
        container.kill();
    }
    let mut container = volume.start(&rootfs);
    container.wait_until_ready();
    assert_eq!(container.query("secret", "SELECT 1").unwrap(), "1\n");
}

/// A pod that is deleted by force may be at work beside its successor for a while.
fn beside_a_start_that_has_not_ended_the_later_one_comes_up(engine: Engine) {
    let rootfs = engine.rootfs();
    let volume = Volume::new("secret");
    let mut earlier = volume.start(&rootfs);
    let begun = volume.path("volume/data.unfinished/ibdata1");
    eventually("the initialisation", || begun.exists().then_some(()));
    volume.replace_pod();
    let mut later = volume.start(&rootfs);
    assert_ne!(earlier.exit_code(), 0);
    later.wait_until_ready();
    assert_eq!(later.query("secret", "SELECT COUNT(*) >= 0 FROM mysql.db").unwrap(), "1\n");
}

fn asked_to_stop_while_initialising_it_stops_at_once(engine: Engine) {
    let volume = Volume::new("secret");
    let mut container = volume.start(&engine.rootfs());
    let begun = volume.path("volume/data.unfinished/ibdata1");
    eventually("the initialisation", || begun.exists().then_some(()));
    let asked = Instant::now();
    container.signal("TERM");
    assert_eq!(container.exit_code(), 143);
    assert!(asked.elapsed() < Duration::from_secs(2));
}

fn an_image_without_a_client_is_probed_by_the_servers_own_file(engine: Engine) {
    let clients = ["/usr/bin/mysql", "/usr/bin/mariadb", "/usr/bin/mysqladmin"];
    let volume = Volume::new("secret");
    let mut container = volume.start_without(&engine.rootfs(), &clients);
    assert!(!container.probe("ready"));
    container.wait_until_ready();
    assert!(volume.path("run/files/accepts-queries").exists());
    assert!(container.query("secret", "SELECT 1").is_err(), "the client was not hidden");
}

fn a_volume_of_the_other_engine_is_refused_with_the_cure(engine: Engine) {
    let volume = Volume::new("secret");
    let mut other = volume.start(&engine.other().rootfs());
    other.wait_until_ready();
    other.signal("TERM");
    assert_eq!(other.exit_code(), 0);

    let mut container = volume.start(&engine.rootfs());
    assert_eq!(container.exit_code(), 1);
    let refusal = container.log();
    let cure = match engine {
        Engine::MySql => "set database.managed.image to a MariaDB image again",
        Engine::MariaDb => "set database.managed.image to a MySQL image again",
    };
    assert!(refusal.trim_end().ends_with(cure), "{refusal}");
    let mut other = volume.start(&engine.other().rootfs());
    other.wait_until_ready();
}

macro_rules! on_both_engines {
    ($($test:ident)*) => {
        mod mysql { $(#[test] fn $test() { super::$test(super::Engine::MySql); })* }
        mod mariadb { $(#[test] fn $test() { super::$test(super::Engine::MariaDb); })* }
    };
}

on_both_engines! {
    the_password_of_the_secret_opens_the_one_root
    killed_at_each_step_of_the_first_start_it_comes_up
    killed_at_any_moment_of_initialisation_it_comes_up
    beside_a_start_that_has_not_ended_the_later_one_comes_up
    asked_to_stop_while_initialising_it_stops_at_once
    an_image_without_a_client_is_probed_by_the_servers_own_file
    a_volume_of_the_other_engine_is_refused_with_the_cure
}

#[test]
fn a_newer_mariadb_upgrades_the_system_tables_of_an_older_one_once() {
    let Some(old) = std::env::var_os("TEST_OLD_MARIADB_ROOTFS") else {
        eprintln!("not run: TEST_OLD_MARIADB_ROOTFS names no older MariaDB");
        return;
    };
    let upgrades = |log: &str| log.matches("Phase 8/8").count();
    let volume = Volume::new("secret");
    let mut before = volume.start(Path::new(&old));
    before.wait_until_ready();
    before.query("secret", "CREATE DATABASE kept").unwrap();
    before.signal("TERM");
    assert_eq!(before.exit_code(), 0);
    assert_eq!(upgrades(&before.log()), 0);

    let mut first = volume.start(&Engine::MariaDb.rootfs());
    first.wait_until_ready();
    assert_eq!(first.query("secret", "SHOW DATABASES LIKE 'kept'").unwrap(), "kept\n");
    assert_eq!(upgrades(&first.log()), 1);
    first.kill();

    let mut second = volume.start(&Engine::MariaDb.rootfs());
    second.wait_until_ready();
    assert_eq!(upgrades(&second.log()), 0);
}
