//! The settings that the live Deployment's pods run with: they stay until the migration that
//! belongs to the wanted ones has completed.

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Container, PodSpec},
};

use super::{
    build::environment::value,
    names::{ACCOUNT_VOLUME, SERVER_CONTAINER, TLS_VOLUME, entry},
    plan::{Account, Connection, Tracing},
};
use crate::contract::env;

/// Image and database of the live pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveSettings {
    /// Image of the server.
    pub image: String,
    /// Database and account.
    pub connection: Connection,
}

/// Reads the settings back; `None` when somebody's edit left them unreadable.
#[must_use]
pub fn settings(deployment: &Deployment) -> Option<LiveSettings> {
    let pod = deployment.spec.as_ref()?.template.spec.as_ref()?;
    let container = server(pod)?;
    let volume = pod.volumes.as_ref()?.iter().find(|volume| volume.name == ACCOUNT_VOLUME)?;
    let items = volume.secret.as_ref()?.items.as_ref()?;
    let number = items.iter().find_map(|item| item.key.strip_suffix(entry::PASSWORD_SUFFIX)?.parse().ok())?;
    Some(LiveSettings {
        image: container.image.clone()?,
        connection: Connection {
            host: value(container, env::MYSQL_HOST)?,
            port: value(container, env::MYSQL_PORT)?.parse().ok()?,
            database: value(container, env::MYSQL_DB)?,
            account: Account { number, username: value(container, env::MYSQL_USER)? },
        },
    })
}

/// Where the live pods send traces; `None`: nowhere.
#[must_use]
pub fn tracing(deployment: &Deployment) -> Option<Tracing> {
    let container = server(deployment.spec.as_ref()?.template.spec.as_ref()?)?;
    Some(Tracing {
        endpoint: value(container, env::OTEL_EXPORTER_OTLP_ENDPOINT)?,
        sampling: value(container, env::OTEL_TRACES_SAMPLER_ARG)?,
    })
}

fn server(pod: &PodSpec) -> Option<&Container> {
    pod.containers.iter().find(|container| container.name == SERVER_CONTAINER)
}

/// The Secret whose certificate the live pods serve with; `None`: they speak plain HTTP.
#[must_use]
pub fn tls_secret(deployment: &Deployment) -> Option<String> {
    let pod = deployment.spec.as_ref()?.template.spec.as_ref()?;
    let volume = pod.volumes.as_ref()?.iter().find(|volume| volume.name == TLS_VOLUME)?;
    volume.secret.as_ref()?.secret_name.clone()
}
