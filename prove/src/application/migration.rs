//! One run of `auth-server migrate`: statement after statement, each of which can go wrong.

use std::collections::BTreeMap;

use authservice::contract::{
    BootstrapUser, DatabaseFault, MigrationError, MigrationReport, SCHEMA_VERSION, env,
};
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::{
    Application,
    database::{Account, Refused, Schema, StatementFault, User, VERSION},
};

/// How long a database that cannot be reached is tried again.
const PATIENCE: SignedDuration = SignedDuration::from_secs(30);

/// What it was started with, and how far it is.
#[derive(Clone, Debug)]
pub struct Migration {
    /// Variables of its container.
    pub variables: BTreeMap<String, String>,
    /// Files in its container, by path.
    pub files: BTreeMap<String, Vec<u8>>,
    /// When it started.
    pub started: Timestamp,
    /// The next statement.
    pub next: usize,
    /// What it has created.
    pub created: Vec<String>,
}

/// How a process ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// With its report.
    Report(Box<MigrationReport>),
    /// Killed, without a word.
    Killed,
}

#[derive(Clone, Debug)]
enum Statement {
    CreateDatabase,
    CreateAccount,
    Grant,
    SchemaStep(i32),
    CreateUser(usize),
}

impl Migration {
    fn variable(&self, name: &str) -> &str {
        self.variables.get(name).map(String::as_str).unwrap_or_default()
    }

    /// A value, or what the file named by its `_FILE` holds.
    fn value(&self, name: &str) -> Option<Vec<u8>> {
        let file = self.variables.get(&format!("{name}{}", env::FILE_SUFFIX));
        match file {
            Some(path) => {
                self.files.get(path).map(|value| value.strip_suffix(b"\n").unwrap_or(value).to_vec())
            }
            None => self.variables.get(name).map(|value| value.clone().into_bytes()),
        }
    }

    fn users(&self) -> Vec<BootstrapUser> {
        serde_json::from_str(self.variable(env::BOOTSTRAP_USERS)).unwrap_or_default()
    }

    fn password_of(&self, user: &BootstrapUser) -> Option<&Vec<u8>> {
        self.files.get(user.password_file.to_str()?).filter(|password| !password.is_empty())
    }

    fn statements(&self) -> Vec<Statement> {
        let users = (0..self.users().len()).map(Statement::CreateUser);
        let steps = (1..=SCHEMA_VERSION).map(Statement::SchemaStep);
        [Statement::CreateDatabase, Statement::CreateAccount, Statement::Grant]
            .into_iter()
            .chain(steps)
            .chain(users)
            .collect()
    }

    /// Runs the next statement; answers how it ended, if it did.
    pub fn advance(
        &mut self,
        application: &mut Application,
        managed: &BTreeMap<String, String>,
        now: Timestamp,
    ) -> Option<End> {
        let statements = self.statements();
        let Some(statement) = statements.get(self.next) else { return Some(self.done()) };
        let fault = application.count_statement();
        if fault == Some(StatementFault::CrashBefore) {
            return Some(End::Killed);
        }
        let outcome = match fault {
            Some(StatementFault::Lost) => Err(lost()),
            Some(StatementFault::Refused) => {
                Err((DatabaseFault::DatabaseError, "the server refuses the statement".to_owned()))
            }
            _ => self.run(statement, application, managed),
        };
        match (fault, outcome) {
            (Some(StatementFault::CrashAfter), Ok(())) => Some(End::Killed),
            (Some(StatementFault::ReplyLost), Ok(())) => self.again(lost(), now),
            (_, Ok(())) => {
                self.next += 1;
                None
            }
            (_, Err(refused)) => self.again(refused, now),
        }
    }

    /// From the first statement again, where patience allows it; else the end.
    fn again(&mut self, (reason, message): Refused, now: Timestamp) -> Option<End> {
        if reason == DatabaseFault::DatabaseUnreachable && now.duration_since(self.started) < PATIENCE {
            self.next = 0;
            return None;
        }
        let error = Some(MigrationError { reason, message });
        let created = self.created.clone();
        Some(End::Report(Box::new(MigrationReport { error, created, ..MigrationReport::default() })))
    }

    fn done(&self) -> End {
        let users = self.users();
        let missing = users.iter().filter(|user| self.password_of(user).is_none());
        End::Report(Box::new(MigrationReport {
            database_version: Some(VERSION.to_owned()),
            schema_version: SCHEMA_VERSION,
            created: self.created.clone(),
            missing_users: missing.map(|user| user.email.clone()).collect(),
            limits: Vec::new(),
            error: None,
        }))
    }

    fn run(
        &mut self,
        statement: &Statement,
        application: &mut Application,
        managed: &BTreeMap<String, String>,
    ) -> Result<(), Refused> {
        let (user, name) =
            (self.variable(env::MYSQL_USER).to_owned(), self.variable(env::MYSQL_DB).to_owned());
        let password = self.value(env::MYSQL_PASSWORD).unwrap_or_default();
        let admin = self.value(env::MYSQL_ADMIN_USER).zip(self.value(env::MYSQL_ADMIN_PASSWORD));
        let database = application.database(self.variable(env::MYSQL_HOST), managed).ok_or_else(lost)?;
        let is_admin = match &admin {
            Some((admin, password)) => database.log_in(&String::from_utf8_lossy(admin), password)?.is_admin,
            None => database.log_in(&user, &password)?.is_admin,
        };
        let lacks = |what: &str| Err((DatabaseFault::GrantMissing, what.to_owned()));
        match statement {
            Statement::CreateDatabase if database.schemas.contains_key(&name) => {}
            Statement::CreateDatabase if !is_admin => return lacks("CREATE"),
            Statement::CreateDatabase => {
                database.schemas.insert(name.clone(), Schema::default());
                self.created.push(format!("database {name}"));
            }
            Statement::CreateAccount if database.accounts.contains_key(&user) => {
                // Never altered: it must be the one meant.
                database.log_in(&user, &password)?;
            }
            Statement::CreateAccount if !is_admin => return lacks("CREATE USER"),
            Statement::CreateAccount => {
                database.accounts.insert(user.clone(), Account { password, ..Account::default() });
                self.created.push(format!("account {user}"));
            }
            Statement::Grant => {
                let account = database.accounts.get_mut(&user).ok_or_else(lost)?;
                if is_admin {
                    account.grants.insert(name);
                } else if !account.grants.contains(&name) {
                    return lacks("SELECT, INSERT, UPDATE, DELETE");
                }
            }
            Statement::SchemaStep(step) => {
                let schema = database.schemas.get_mut(&name).ok_or_else(lost)?;
                if schema.steps < *step && !is_admin && self.variable(env::SCHEMA_MODE) == "Existing" {
                    return lacks("CREATE");
                }
                schema.steps = schema.steps.max(*step);
            }
            Statement::CreateUser(at) => {
                let users = self.users();
                let Some(user) = users.get(*at) else { return Ok(()) };
                let Some(password) = self.password_of(user).cloned() else { return Ok(()) };
                let schema = database.schemas.get_mut(&name).ok_or_else(lost)?;
                if !schema.users.contains_key(&user.email) {
                    schema.users.insert(user.email.clone(), User { password, admin: user.admin });
                    self.created.push(format!("user {}", user.email));
                }
            }
        }
        Ok(())
    }
}

fn lost() -> Refused {
    (DatabaseFault::DatabaseUnreachable, "Lost connection to MySQL server".to_owned())
}
