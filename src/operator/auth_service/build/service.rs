//! The Services: where callers find the auth server, and where the server finds the managed database.

use k8s_openapi::{
    api::core::v1::{Service, ServicePort, ServiceSpec},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::super::names::{Component, Identity};
use crate::contract::{ADMINISTRATION_PORT, DATABASE_PORT, SERVICE_PORT};

/// Name of the public port, in the Service and in the server's container.
pub(super) const PUBLIC_PORT_NAME: &str = "http";
/// Name of the administration port, in its Service and in the server's container.
pub(super) const ADMINISTRATION_PORT_NAME: &str = "administration";
/// Name of the database's port, in the Service and in the database's container.
pub(super) const DATABASE_PORT_NAME: &str = "mysql";

/// The Service that callers use. It has the public port alone: administration and operations are
/// not for everybody who may validate a token.
pub(super) fn server(identity: &Identity) -> Service {
    Service {
        metadata: identity.metadata(identity.server(), Component::Server),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            ..spec(identity, Component::Server, PUBLIC_PORT_NAME, SERVICE_PORT)
        }),
        ..Service::default()
    }
}

/// The Service of the administration port: whoever may call the service need not reach it.
pub(super) fn administration(identity: &Identity) -> Service {
    Service {
        metadata: identity.metadata(identity.administration(), Component::Server),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            ..spec(identity, Component::Server, ADMINISTRATION_PORT_NAME, ADMINISTRATION_PORT)
        }),
        ..Service::default()
    }
}

/// The headless Service of the managed database. It gives the address also while the database is
/// not ready: a probe that fails must not cut off a database that still answers queries.
pub(super) fn database(identity: &Identity) -> Service {
    Service {
        metadata: identity.metadata(identity.database(), Component::Database),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".to_owned()),
            publish_not_ready_addresses: Some(true),
            ..spec(identity, Component::Database, DATABASE_PORT_NAME, DATABASE_PORT)
        }),
        ..Service::default()
    }
}

fn spec(identity: &Identity, component: Component, name: &str, port: u16) -> ServiceSpec {
    ServiceSpec {
        selector: Some(identity.selector(component)),
        ports: Some(vec![ServicePort {
            name: Some(name.to_owned()),
            port: port.into(),
            protocol: Some("TCP".to_owned()),
            target_port: Some(IntOrString::String(name.to_owned())),
            ..ServicePort::default()
        }]),
        ..ServiceSpec::default()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::sample, administration, database, server};

    #[test]
    fn callers_reach_the_public_port_and_no_other() {
        insta::assert_yaml_snapshot!(server(&sample::managed().identity));
    }

    #[test]
    fn administrators_reach_their_port_by_a_service_of_its_own() {
        insta::assert_yaml_snapshot!(administration(&sample::managed().identity));
    }

    #[test]
    fn the_database_has_an_address_before_it_is_ready() {
        insta::assert_yaml_snapshot!(database(&sample::managed().identity));
    }
}
