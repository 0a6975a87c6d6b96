//! The tables: created where rights allow, and looked at with the server's own eyes.

use sqlx::{AssertSqlSafe, MySqlConnection};

use super::{Run, accounts::ROW_RIGHTS, report::Explain};
use crate::{
    contract::{DatabaseFault, MigrationError, SCHEMA_VERSION},
    server::{
        config::{Database, SchemaMode},
        store::{
            self, StoreError,
            rights::Rights,
            schema::{self, ACCESS_TABLE, FAILURE_TABLE, REVOKED_TABLE, STEPS, USER_TABLE},
            sql,
        },
    },
};

impl Run<'_> {
    /// Runs the steps that are not done: statements that create with `worker`, rows with `server`.
    pub(super) async fn create_tables(
        &mut self,
        worker: &mut MySqlConnection,
        rights: &Rights,
        server: &mut MySqlConnection,
    ) -> Result<(), MigrationError> {
        let config = self.config;
        let database = config.database.name.as_str();
        let worker_name =
            config.admin.as_ref().map_or(config.database.account.user.as_str(), |admin| admin.user.as_str());
        let explain = Explain { database: &config.database, account: worker_name };
        let explained = |error: StoreError| explain.error(error);

        // Steps of a later release are its own business: they keep what this one needs.
        let reached = store::schema_version(server).await.map_err(explained)?;
        if reached > SCHEMA_VERSION {
            return Ok(());
        }
        let missing =
            schema::missing_tables(&schema::existing_tables(worker, database).await.map_err(explained)?);
        self.nothing_is_lost(reached, &missing)?;
        let may_create = !rights.lacks("CREATE", database);
        if missing.contains(&USER_TABLE) {
            if config.schema_mode == SchemaMode::Existing {
                let words = format!(
                    "table user does not exist in database {database}, and an existing schema is never created"
                );
                return Err(explain.error(StoreError::new(DatabaseFault::SchemaMissing, words)));
            }
            if !may_create {
                let words = format!("CREATE on {database} (table user does not exist)");
                return Err(explain.error(StoreError::new(DatabaseFault::GrantMissing, words)));
            }
        }
        if !may_create && !missing.is_empty() {
            return self.without_ours(worker_name, reached, &missing);
        }
        // The database was perhaps created after this connection.
        let selected =
            sqlx::raw_sql(AssertSqlSafe(format!("USE {}", sql::name(database)))).execute(&mut *worker).await;
        selected.map_err(|error| explain.error(error.into()))?;
        match self.run_steps(worker, server, reached, &missing).await {
            // A role promised more than it holds.
            Err(error) if error.fault == DatabaseFault::GrantMissing && !missing.contains(&USER_TABLE) => {
                self.without_ours(worker_name, reached, &missing)
            }
            result => result.map_err(explained),
        }
    }

    /// A table of ours that was there and is gone, beside users who are still there, is not made anew:
    /// without its entries they would be more than they are. Failed logins are no such loss.
    fn nothing_is_lost(&self, reached: i32, missing: &[&str]) -> Result<(), MigrationError> {
        let lost = STEPS.iter().filter(|step| step.table != FAILURE_TABLE);
        let lost = lost.copied().find(|step| step.version <= reached && missing.contains(&step.table));
        let Some(lost) = lost.filter(|_| !missing.contains(&USER_TABLE)) else { return Ok(()) };
        let (holds, anew) = match lost.table {
            ACCESS_TABLE => {
                ("says who is disabled and whose tokens ended", "nobody disabled and no user's tokens ended")
            }
            REVOKED_TABLE => ("lists the tokens that were logged out", "those tokens good again"),
            _ => ("tells admins from others", "every present user an admin"),
        };
        let Database { host, port, name, .. } = &self.config.database;
        Err(MigrationError {
            reason: DatabaseFault::SchemaMissing,
            message: format!(
                "Database {name:?} at {host}:{port} has lost table {table}, which {holds}: restore it from a backup, \
                 or drop table authservice_schema too, and {table} is made anew with {anew}.",
                table = lost.table
            ),
        })
    }

    async fn run_steps(
        &mut self,
        worker: &mut MySqlConnection,
        server: &mut MySqlConnection,
        reached: i32,
        missing: &[&str],
    ) -> Result<(), StoreError> {
        if missing.contains(&schema::LEDGER_TABLE) {
            schema::create_ledger(worker).await?;
        }
        for step in STEPS {
            if missing.contains(&step.table) {
                step.run(worker).await?;
                self.created(format!("table {}", step.table));
            }
            if step.version > reached {
                step.record(server).await?;
            }
        }
        Ok(())
    }

    /// Tables of ours that cannot be made: a database that has none serves on `user` alone, one that has
    /// those of an earlier release cannot serve this one.
    fn without_ours(&mut self, account: &str, reached: i32, missing: &[&str]) -> Result<(), MigrationError> {
        let name = &self.config.database.name;
        let needed: Vec<&str> = missing.iter().copied().filter(|table| *table != FAILURE_TABLE).collect();
        if reached > 0 && !needed.is_empty() {
            let words = format!("CREATE on {name} (for table {})", needed.join(" and "));
            let explain = Explain { database: &self.config.database, account };
            return Err(explain.error(StoreError::new(DatabaseFault::GrantMissing, words)));
        }
        let lacks = format!("account {account} lacks CREATE on database {name}");
        if !needed.is_empty() {
            self.limited(format!(
                "the admin flag, disabled users, logout, changes of passwords, and login protection by all pods together: {lacks}, \
                 so tables authservice_* are absent, every user is an admin and each pod counts failed logins on its own"
            ));
        } else if missing.contains(&FAILURE_TABLE) {
            self.limited(format!(
                "login protection by all pods together: {lacks}, so table {FAILURE_TABLE} is absent and each pod counts failed logins on its own"
            ));
        }
        Ok(())
    }

    /// An account of the user's may hold rights on single tables.
    async fn check_failure_rights(&mut self, server: &mut MySqlConnection) -> Result<(), StoreError> {
        let Database { name, account, .. } = &self.config.database;
        let tables = schema::existing_tables(server, name).await?;
        if schema::missing_tables(&tables).contains(&FAILURE_TABLE) {
            return Ok(());
        }
        let rights = Rights::read(server).await?;
        let lacking: Vec<&str> =
            ROW_RIGHTS.into_iter().filter(|right| rights.lacks_on(right, name, FAILURE_TABLE)).collect();
        if !lacking.is_empty() {
            self.limited(format!(
                "login protection by all pods together: account {} lacks {} on table {FAILURE_TABLE}, so each pod counts failed logins on its own",
                account.user,
                lacking.join(", ")
            ));
        }
        Ok(())
    }

    /// Does, as the server, the reads that the server does.
    pub(super) async fn verify(&mut self, server: &mut MySqlConnection) -> Result<(), MigrationError> {
        let database = &self.config.database;
        let explain = Explain { database, account: &database.account.user };
        let explained = |error: StoreError| explain.error(error);
        let table = schema::inspect_user_table(server, &database.name).await.map_err(explained)?;
        let read = sqlx::query("SELECT CAST(id AS SIGNED), email, password FROM `user` LIMIT 0")
            .fetch_all(&mut *server)
            .await;
        read.map_err(|error| explain.error(error.into()))?;
        self.report.schema_version = store::schema_version(server).await.map_err(explained)?;
        self.check_failure_rights(server).await.map_err(explained)?;
        let hash_length = self.config.passwords.argon2.hash_length();
        if table.password_length < hash_length {
            self.limited(format!(
                "rehashing of passwords: column password of table user holds {} characters, a hash needs {}",
                table.password_length, hash_length
            ));
        }
        Ok(())
    }
}
