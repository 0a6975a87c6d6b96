//! `auth-server migrate`: brings a database from whatever it is to what the server needs, and
//! says what it did. Every part can be run again, killed anywhere, and run by several at once.

mod accounts;
mod report;
mod tables;
mod users;

use std::time::{Duration, Instant};

use sqlx::{MySqlConnection, Row};

pub(super) use self::report::Explain;
pub use self::report::publish;
use super::{
    config::{Account, MigrateConfig},
    store::{self, StoreError, close, connect, number, rights::Rights, text, within},
};
use crate::contract::{DatabaseFault, MigrationError, MigrationReport};

/// How long a database that cannot be reached is tried again.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest wait for one connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for another runner, in seconds. `MariaDB` takes a negative number for NULL, so
/// "for ever" cannot be said to both engines.
const LOCK_SECONDS: i64 = 60;

/// What the parts of one run share.
struct Run<'a> {
    config: &'a MigrateConfig,
    report: MigrationReport,
}

/// Runs every part and tells how far it came.
pub async fn run(config: &MigrateConfig) -> MigrationReport {
    let mut run = Run { config, report: MigrationReport::default() };
    if let Err(error) = run.attempt_patiently().await {
        tracing::error!(reason = ?error.reason, message = error.message, "migration failed");
        run.report.error = Some(error);
    }
    run.report
}

impl Run<'_> {
    /// Databases take their time to start, and so do the names that lead to them. A member of a cluster
    /// takes connections before it answers anything.
    async fn attempt_patiently(&mut self) -> Result<(), MigrationError> {
        let start = Instant::now();
        let mut pause = Duration::from_millis(250);
        loop {
            match self.attempt().await {
                Err(error)
                    if error.reason == DatabaseFault::DatabaseUnreachable
                        && start.elapsed() + pause < PATIENCE =>
                {
                    let waited_seconds = start.elapsed().as_secs();
                    tracing::info!(waited_seconds, error.message, "waiting for the database");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(2));
                    let created = std::mem::take(&mut self.report.created);
                    self.report = MigrationReport { created, ..MigrationReport::default() };
                }
                outcome => return outcome,
            }
        }
    }

    async fn attempt(&mut self) -> Result<(), MigrationError> {
        let worker = self.config.admin.as_ref().unwrap_or(&self.config.database.account);
        let explain = Explain { database: &self.config.database, account: &worker.user };
        let options = store::options(&self.config.database, worker, false);
        let mut connection =
            connect(&options, CONNECT_TIMEOUT).await.map_err(|error| explain.error(error))?;
        let result = self.with_connection(&mut connection, worker).await;
        // Closing also releases the lock.
        close(connection).await;
        result
    }

    async fn with_connection(
        &mut self,
        connection: &mut MySqlConnection,
        worker: &Account,
    ) -> Result<(), MigrationError> {
        let explain = Explain { database: &self.config.database, account: &worker.user };
        self.report.database_version =
            Some(read_version(connection).await.map_err(|error| explain.error(error))?);
        lock(connection, &self.config.database.name).await.map_err(|error| explain.error(error))?;
        let rights = Rights::read(connection).await.map_err(|error| explain.error(error))?;
        if self.config.admin.is_some() {
            self.prepare_as_admin(connection, &rights).await?;
        } else {
            self.prepare_as_server(connection, &rights).await?;
        }
        // From here on the server's own account does all but create tables, which proves it.
        let mut server = self.connect_as_server().await?;
        let result = self.with_both(connection, &rights, &mut server).await;
        close(server).await;
        result
    }

    async fn with_both(
        &mut self,
        worker: &mut MySqlConnection,
        rights: &Rights,
        server: &mut MySqlConnection,
    ) -> Result<(), MigrationError> {
        self.create_tables(worker, rights, server).await?;
        self.verify(server).await?;
        self.create_users(server).await
    }

    async fn connect_as_server(&self) -> Result<MySqlConnection, MigrationError> {
        let account = &self.config.database.account;
        let explain = Explain { database: &self.config.database, account: &account.user };
        connect(&store::options(&self.config.database, account, true), CONNECT_TIMEOUT)
            .await
            .map_err(|error| explain.error(error))
    }

    fn created(&mut self, what: String) {
        tracing::info!(what, "created");
        self.report.created.push(what);
    }

    fn limited(&mut self, what: String) {
        tracing::warn!(what, "limited");
        self.report.limits.push(what);
    }
}

async fn read_version(connection: &mut MySqlConnection) -> Result<String, StoreError> {
    let row = within(CONNECT_TIMEOUT, sqlx::query("SELECT VERSION()").fetch_one(connection)).await?;
    Ok(text(&row, 0)?)
}

/// Lets runners on the same server pass one at a time. On a cluster the lock is local to one
/// member or, in some releases, refused as not supported (1235), so nothing after it relies on it.
async fn lock(connection: &mut MySqlConnection, database: &str) -> Result<(), StoreError> {
    // Names of locks have at most 64 characters; two databases that share one merely wait.
    let name: String = "authservice:".chars().chain(database.chars()).take(64).collect();
    let asked = sqlx::query("SELECT CAST(GET_LOCK(?, ?) AS SIGNED)")
        .bind(name)
        .bind(LOCK_SECONDS)
        .fetch_one(connection)
        .await;
    let row = match asked {
        Err(error) if number(&error) == Some(1235) => return Ok(()),
        asked => asked?,
    };
    match row.try_get::<Option<i64>, _>(0)? {
        Some(1) => Ok(()),
        _ => Err(StoreError::new(
            DatabaseFault::DatabaseError,
            format!("another migration of this database has held its lock for {LOCK_SECONDS} s"),
        )),
    }
}
