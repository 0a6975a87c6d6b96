//! What the server's tests share: real databases, the real binary, plain clients, and a proxy
//! that can cut the line.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "shared by test binaries that each use a part; a panic is a failed test"
)]

pub mod certificates;
pub mod http;
pub mod key_files;
#[path = "../support/ports.rs"]
mod ports;
pub mod proxy;

use std::{
    cell::{OnceCell, RefCell, RefMut},
    collections::BTreeMap,
    fs::File,
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread::sleep,
    time::{Duration, Instant},
};

use authservice::contract::{MigrationReport, ServerStatus};
use sqlx::{AssertSqlSafe, Column, Connection, MySqlConnection, Row};
use tempfile::TempDir;

use self::http::{Answer, get};
pub use self::ports::free_address;

pub const BINARY: &str = env!("CARGO_BIN_EXE_auth-server");
pub const JWT_SECRET: &str = "tests-only-secret-of-more-than-32-bytes";

/// Waits until a condition holds, and fails after `limit` with `what`.
pub fn eventually(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        sleep(Duration::from_millis(20));
    }
}

/// A real database server.
#[derive(Debug, Clone)]
pub struct Engine {
    pub name: &'static str,
    pub address: SocketAddr,
    pub user: String,
    pub password: String,
}

impl Engine {
    pub fn mysql() -> Self {
        Self::from_url("MySQL", "TEST_MYSQL_URL")
    }

    pub fn mariadb() -> Self {
        Self::from_url("MariaDB", "TEST_MARIADB_URL")
    }

    /// Both engines, and the oldest `MariaDB` that is supported where `cargo xtask test --full` runs one.
    pub fn all() -> Vec<Self> {
        let mut engines = vec![Self::mysql(), Self::mariadb()];
        if std::env::var_os("TEST_OLD_MARIADB_URL").is_some() {
            engines.push(Self::from_url("old MariaDB", "TEST_OLD_MARIADB_URL"));
        }
        engines
    }

    /// Every member of one Galera cluster.
    pub fn galera() -> Vec<Self> {
        let urls = std::env::var("TEST_GALERA_URLS").expect("TEST_GALERA_URLS must have a URL a member");
        urls.split_whitespace().map(|url| Self::at("Galera", url)).collect()
    }

    fn from_url(name: &'static str, variable: &str) -> Self {
        let url = std::env::var(variable)
            .unwrap_or_else(|_| panic!("{variable} must be mysql://root:password@127.0.0.1:port"));
        Self::at(name, url.trim())
    }

    fn at(name: &'static str, url: &str) -> Self {
        let rest = url.strip_prefix("mysql://").expect("mysql://");
        let (account, address) = rest.split_once('@').expect("an account");
        let (user, password) = account.split_once(':').expect("a password");
        Self {
            name,
            address: address.trim_end_matches('/').parse().expect("address:port"),
            user: user.into(),
            password: password.into(),
        }
    }

    pub fn connect(&self) -> Sql {
        self.try_connect().unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    fn try_connect(&self) -> Result<Sql, sqlx::Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let options = sqlx::mysql::MySqlConnectOptions::new()
            .host(&self.address.ip().to_string())
            .port(self.address.port())
            .username(&self.user)
            .password(&self.password);
        let connection = runtime.block_on(MySqlConnection::connect_with(&options))?;
        Ok(Sql { runtime, connection })
    }

    /// A name for a database and an account of one test.
    pub fn fresh(&self) -> Database {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("t_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Database {
            engine: self.clone(),
            user: format!("{name}_user"),
            password: "it's \\ a \"pass%word`".to_owned(),
            name,
            via: self.address,
            is_guest: false,
            sql: OnceCell::new(),
        }
    }
}

pub struct Sql {
    runtime: tokio::runtime::Runtime,
    connection: MySqlConnection,
}

impl Sql {
    pub fn run(&mut self, statement: &str) {
        self.try_run(statement).unwrap_or_else(|error| panic!("{statement}: {error}"));
    }

    pub fn try_run(&mut self, statement: &str) -> Result<(), sqlx::Error> {
        self.runtime
            .block_on(sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut self.connection))
            .map(|_| ())
    }

    /// Every value as text.
    pub fn rows(&mut self, query: &str) -> Vec<Vec<String>> {
        let rows = self
            .runtime
            .block_on(sqlx::raw_sql(AssertSqlSafe(query.to_owned())).fetch_all(&mut self.connection));
        let rows = rows.unwrap_or_else(|error| panic!("{query}: {error}"));
        rows.iter()
            .map(|row| {
                let value =
                    |index| row.try_get_unchecked::<Option<Vec<u8>>, _>(index).unwrap().unwrap_or_default();
                row.columns()
                    .iter()
                    .map(|column| String::from_utf8_lossy(&value(column.ordinal())).into_owned())
                    .collect()
            })
            .collect()
    }
}

/// A database of one test with the account of its server; both are dropped at the end.
pub struct Database {
    pub engine: Engine,
    pub name: String,
    pub user: String,
    pub password: String,
    /// Where the server finds the database.
    pub via: SocketAddr,
    /// Whether another value drops it.
    is_guest: bool,
    sql: OnceCell<RefCell<Sql>>,
}

impl Database {
    /// The administrator's connection, opened once.
    pub fn sql(&self) -> RefMut<'_, Sql> {
        self.sql.get_or_init(|| RefCell::new(self.engine.connect())).borrow_mut()
    }

    /// The same on another member of the cluster.
    pub fn on(&self, member: &Engine) -> Self {
        Self {
            engine: member.clone(),
            name: self.name.clone(),
            user: self.user.clone(),
            password: self.password.clone(),
            via: member.address,
            is_guest: true,
            sql: OnceCell::new(),
        }
    }

    pub fn reset(&self) {
        let mut sql = self.sql();
        for statement in self.removal() {
            sql.run(&statement);
        }
    }

    fn removal(&self) -> [String; 2] {
        [
            format!("DROP DATABASE IF EXISTS `{}`", self.name),
            format!("DROP USER IF EXISTS '{}'@'%'", self.user),
        ]
    }

    pub fn create(&self) {
        self.sql().run(&format!("CREATE DATABASE `{}`", self.name));
    }

    pub fn create_account(&self, grants: &str) {
        let mut sql = self.sql();
        sql.run(&format!(
            "CREATE USER '{}'@'%' IDENTIFIED BY '{}'",
            self.user,
            self.password.replace('\\', "\\\\").replace('\'', "\\'")
        ));
        if !grants.is_empty() {
            sql.run(&format!(
                "GRANT {grants} ON `{}`.* TO '{}'@'%'",
                self.name.replace('_', "\\_"),
                self.user
            ));
        }
    }

    /// The original's own table with its own row.
    pub fn create_original(&self) {
        self.create();
        self.sql().run(&format!(
            "USE `{}`; CREATE TABLE user (id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, email VARCHAR(255) NOT NULL UNIQUE, \
             password VARCHAR(255) NOT NULL); INSERT INTO user (email, password) VALUES ('georgio@email.com', 'Admin123')",
            self.name
        ));
    }

    pub fn insert(&self, email: &str, password: &str) {
        self.sql().run(&format!(
            "INSERT INTO `{}`.user (email, password) VALUES ('{email}', '{password}')",
            self.name
        ));
    }

    pub fn stored_password(&self, email: &str) -> String {
        self.sql().rows(&format!("SELECT password FROM `{}`.user WHERE email = '{email}'", self.name))[0][0]
            .clone()
    }

    /// Columns of every table, and the rows that do not change from run to run.
    pub fn state(&self) -> Vec<Vec<String>> {
        let mut sql = self.sql();
        let name = &self.name;
        let mut state = sql.rows(&format!(
            "SELECT table_name, column_name, column_type, collation_name, is_nullable, column_key, extra FROM information_schema.columns \
             WHERE table_schema = '{name}' ORDER BY table_name, ordinal_position"
        ));
        let rows = [
            format!("SELECT version FROM `{name}`.authservice_schema ORDER BY version"),
            format!(
                "SELECT u.email, a.admin FROM `{name}`.user u LEFT JOIN `{name}`.authservice_user a ON a.user_id = u.id ORDER BY u.email"
            ),
            format!("SELECT COUNT(*) FROM `{name}`.authservice_user"),
        ];
        state.extend(rows.iter().flat_map(|query| sql.rows(query)));
        state.extend(
            sql.rows(&format!("SHOW GRANTS FOR '{}'@'%'", self.user))
                .into_iter()
                .filter(|grant| !grant[0].contains("USAGE")),
        );
        state
    }

    /// The environment that names this database and its account.
    pub fn environment(&self) -> BTreeMap<String, String> {
        [
            ("MYSQL_HOST", self.via.ip().to_string()),
            ("MYSQL_PORT", self.via.port().to_string()),
            ("MYSQL_DB", self.name.clone()),
            ("MYSQL_USER", self.user.clone()),
            ("MYSQL_PASSWORD", self.password.clone()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    /// Runs `auth-server user` with these words and this standard input.
    pub fn user(&self, words: &[&str], input: &str) -> Output {
        self.user_with(&[], words, input)
    }

    /// The same, with these variables too.
    pub fn user_with(&self, variables: &[(&str, &str)], words: &[&str], input: &str) -> Output {
        use std::io::Write;
        let mut child = Command::new(BINARY)
            .arg("user")
            .args(words)
            .env_clear()
            .envs(self.environment())
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that refuses its arguments reads nothing.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    }

    /// The same, and it succeeds: what it prints.
    pub fn user_done(&self, words: &[&str], input: &str) -> String {
        let output = self.user(words, input);
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn migration(&self) -> Migration {
        let folder = TempDir::new().unwrap();
        let mut environment = self.environment();
        // Short passwords keep the tests readable; the least length has a test of its own.
        environment.insert("PASSWORD_MIN_LENGTH".into(), "1".into());
        environment.insert("TERMINATION_LOG".into(), folder.path().join("report").to_str().unwrap().into());
        Migration { folder, environment }
    }

    pub fn admin_migration(&self) -> Migration {
        let admin = [
            ("MYSQL_ADMIN_USER", self.engine.user.as_str()),
            ("MYSQL_ADMIN_PASSWORD", self.engine.password.as_str()),
        ];
        self.migration().with(&admin)
    }

    /// Sets everything up and serves it.
    pub fn serve(&self, variables: &[(&str, &str)]) -> Server {
        Server::start(self.environment(), variables)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if self.is_guest {
            return;
        }
        // While a test unwinds, a second panic would hide the first.
        if let Ok(mut sql) = self.engine.try_connect() {
            for statement in self.removal() {
                let _ = sql.try_run(&statement);
            }
        }
    }
}

/// One run of `auth-server migrate`.
pub struct Migration {
    folder: TempDir,
    environment: BTreeMap<String, String>,
}

impl Migration {
    pub fn with(mut self, variables: &[(&str, &str)]) -> Self {
        self.environment
            .extend(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        self
    }

    /// Declares a bootstrap user; without a password its file is absent.
    pub fn user(mut self, email: &str, admin: bool, password: Option<&str>) -> Self {
        let file = self.folder.path().join(format!("password-{}", email.replace('/', "_")));
        if let Some(password) = password {
            std::fs::write(&file, password).unwrap();
        }
        let mut users: Vec<serde_json::Value> = self
            .environment
            .get("BOOTSTRAP_USERS")
            .map_or_else(Vec::new, |users| serde_json::from_str(users).unwrap());
        users.push(serde_json::json!({"email": email, "admin": admin, "passwordFile": file}));
        self.environment.insert("BOOTSTRAP_USERS".into(), serde_json::to_string(&users).unwrap());
        self
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(BINARY);
        command
            .arg("migrate")
            .env_clear()
            .envs(&self.environment)
            .env("RUST_LOG", "info")
            .stdin(Stdio::null());
        command
    }

    pub fn output(&self) -> Output {
        self.command().output().unwrap()
    }

    /// Runs to the end; the report of the termination log and whether the run succeeded.
    pub fn run(&self) -> (MigrationReport, bool) {
        let output = self.output();
        let written = std::fs::read_to_string(self.folder.path().join("report"));
        let written =
            written.unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
        let report: MigrationReport = serde_json::from_str(&written).unwrap();
        assert_eq!(report.error.is_none(), output.status.success(), "{report:?}");
        (report, output.status.success())
    }

    pub fn succeed(&self) -> MigrationReport {
        let (report, succeeded) = self.run();
        assert!(succeeded, "{report:?}");
        report
    }
}

/// A running `auth-server serve`; killed at the end.
pub struct Server {
    pub public: SocketAddr,
    pub ops: SocketAddr,
    pub child: Child,
    log: PathBuf,
    _folder: TempDir,
}

impl Server {
    /// Starts it and waits until it is ready.
    pub fn start(environment: BTreeMap<String, String>, variables: &[(&str, &str)]) -> Self {
        let server = Self::launch(environment, variables);
        eventually("ready", Duration::from_secs(20), || server.is_ready());
        server
    }

    /// Starts it and waits until it listens.
    pub fn launch(mut environment: BTreeMap<String, String>, variables: &[(&str, &str)]) -> Self {
        let (public, ops) = (free_address(), free_address());
        let folder = TempDir::new().unwrap();
        let log = folder.path().join("log");
        environment
            .extend([("LISTEN_ADDRESS".into(), public.to_string()), ("OPS_ADDRESS".into(), ops.to_string())]);
        environment.extend(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        if !environment.contains_key("KEY_RING_DIR") {
            environment.entry("JWT_SECRET".into()).or_insert_with(|| JWT_SECRET.into());
        }
        let child = Command::new(BINARY)
            .arg("serve")
            .env_clear()
            .envs(environment)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut server = Self { public, ops, child, log, _folder: folder };
        let start = Instant::now();
        while get(ops, "/livez").is_err() {
            let ended = server.child.try_wait().unwrap();
            assert!(
                ended.is_none() && start.elapsed() < Duration::from_secs(20),
                "{ended:?}: {}",
                server.log()
            );
            sleep(Duration::from_millis(10));
        }
        server
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    pub fn is_ready(&self) -> bool {
        get(self.ops, "/readyz").is_ok_and(|answer| answer.status == 200)
    }

    pub fn status(&self) -> ServerStatus {
        serde_json::from_str(&get(self.ops, "/status").unwrap().body).unwrap()
    }

    pub fn login(&self, email: &str, password: &str) -> Answer {
        http::login(self.public, email, password).unwrap()
    }

    pub fn token(&self, email: &str, password: &str) -> String {
        let answer = self.login(email, password);
        assert_eq!(answer.status, 200, "{answer:?}\n{}", self.log());
        answer.body
    }

    pub fn validate(&self, token: &str) -> Answer {
        http::validate(self.public, token).unwrap()
    }

    pub fn logout(&self, token: &str) -> Answer {
        http::logout(self.public, token).unwrap()
    }

    /// The value of a metric, labels included, as `/metrics` names it.
    pub fn metric(&self, name: &str) -> u64 {
        let text = get(self.ops, "/metrics").unwrap().body;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("{name} is not in\n{text}")).parse().unwrap()
    }

    /// Waits until the token is refused as revoked, for the lag and the time of a read at most.
    pub fn soon_refuses(&self, token: &str, lag: Duration) {
        eventually("the token is refused", lag + Duration::from_secs(1), || {
            let answer = self.validate(token);
            assert!(
                answer.status == 200 || answer.body == "Not authorized: revoked",
                "{answer:?}\n{}",
                self.log()
            );
            answer.status == 403
        });
    }

    pub fn terminate(&self) {
        let done = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(done.success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program of the environment, which may be several words.
pub fn program(variable: &str) -> Command {
    let words = std::env::var(variable).unwrap_or_else(|_| panic!("{variable} must name a program"));
    let mut words = words.split(' ').filter(|word| !word.is_empty());
    let mut command = Command::new(words.next().expect("a program"));
    command.args(words);
    command
}

/// Runs one of tests/clients with JSON on its standard input and reads JSON from its output.
pub fn python(script: &str, input: &serde_json::Value) -> serde_json::Value {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(script);
    // By text, so that the program needs to share no file system with us.
    let source = std::fs::read_to_string(path).unwrap();
    let mut command = program("TEST_PYTHON");
    command.args(["-c", &source]);
    let output = ask(command, input);
    assert!(output.status.success(), "{script} failed: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Runs a program with JSON on its standard input.
pub fn ask(mut command: Command, question: &serde_json::Value) -> Output {
    use std::io::Write;
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(question.to_string().as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}
