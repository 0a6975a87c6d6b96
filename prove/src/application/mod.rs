//! A model of the managed application: databases with accounts, tables and users, and the processes
//! in pods that load keys, sign and validate tokens, and set databases up.

pub mod clients;
pub mod database;
pub mod migration;
pub mod server;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use self::{
    clients::Clients,
    database::{Database, StatementFault},
    migration::Migration,
    server::Server,
};

/// What runs in a pod.
#[derive(Clone, Debug)]
pub enum Process {
    /// The managed database, on the volume of this claim's uid.
    Database {
        /// The claim's uid.
        volume: String,
    },
    /// `auth-server serve`.
    Server(Box<Server>),
    /// `auth-server migrate`.
    Migration(Box<Migration>),
}

/// Everything beside the API server that has a state.
#[derive(Clone, Debug, Default)]
pub struct Application {
    /// Databases on volumes, by the uid of the claim.
    pub volumes: BTreeMap<String, Database>,
    /// Databases of the user's, by host.
    pub external: BTreeMap<String, Database>,
    /// What runs, by the pod's uid.
    pub processes: BTreeMap<String, Process>,
    /// Addresses of pods that run, to their uids.
    pub addresses: BTreeMap<std::net::IpAddr, String>,
    /// Who uses the service, and the tokens they hold.
    pub clients: Clients,
    /// How many statements migrations have run.
    pub statements: usize,
    /// The one statement that goes wrong, counted from the first.
    pub fault: Option<(usize, StatementFault)>,
}

/// The application, as every part of the world holds it.
#[derive(Clone, Debug, Default)]
pub struct Shared(Arc<Mutex<Application>>);

impl Shared {
    /// A world's application from a state of before.
    #[must_use]
    pub fn of(application: Application) -> Self {
        Self(Arc::new(Mutex::new(application)))
    }

    /// Everything, for as long as nothing is awaited.
    pub fn lock(&self) -> MutexGuard<'_, Application> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Application {
    /// The database that answers at a host: the user's, or the managed one whose pod runs.
    pub fn database(&mut self, host: &str, managed: &BTreeMap<String, String>) -> Option<&mut Database> {
        if let Some(uid) = managed.get(host) {
            let Some(Process::Database { volume }) = self.processes.get(uid) else { return None };
            return self.volumes.get_mut(&volume.clone()).filter(|database| database.answers);
        }
        self.external.get_mut(host).filter(|database| database.answers)
    }

    /// Counts a statement, and tells what is to go wrong with it.
    pub fn count_statement(&mut self) -> Option<StatementFault> {
        let number = self.statements;
        self.statements += 1;
        self.fault.filter(|(at, _)| *at == number).map(|(_, fault)| fault)
    }
}
