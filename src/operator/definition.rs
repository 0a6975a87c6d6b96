//! Brings a custom resource definition up to date that Helm will not touch, because another
//! release's name stands on it: one that was kept on uninstall, or a neighbour's.

use std::sync::Arc;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, CustomResourceExt, ResourceExt, api::PostParams};

use super::{client, labels, metrics::Metrics};
use crate::api::AuthService;

/// What became of the definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Update {
    /// It is this release's already.
    Current,
    /// It was brought to this release.
    Updated,
    /// It belongs to this later release and was left.
    Later(String),
}

/// Why the definition could not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration cannot be made into a client, or the API server refused.
    #[error("the custom resource definition {0} cannot be updated")]
    Api(String, #[source] kube::Error),
}

/// Replaces the live definition's spec by this release's, unless a later release made it.
/// Its metadata stays, so that it goes on belonging to whom it belongs.
///
/// # Errors
/// There is no definition, it may not be changed, or somebody else changed it meanwhile.
pub async fn update(config: kube::Config) -> Result<Update, Error> {
    let ours = AuthService::crd();
    let name = ours.name_any();
    let failed = |error| Error::Api(name.clone(), error);
    let client = client::client(config, client::CALL_DEADLINE, Arc::new(Metrics::new())).map_err(failed)?;
    let api = Api::<CustomResourceDefinition>::all(client);
    let live = api.get(&name).await.map_err(failed)?;
    match decide(live, ours) {
        Decision::Leave(update) => Ok(update),
        Decision::Replace(wanted) => {
            api.replace(&name, &PostParams::default(), &wanted).await.map_err(failed)?;
            Ok(Update::Updated)
        }
    }
}

#[derive(Debug, PartialEq)]
enum Decision {
    Leave(Update),
    Replace(Box<CustomResourceDefinition>),
}

fn decide(mut live: CustomResourceDefinition, ours: CustomResourceDefinition) -> Decision {
    let release = live.annotations().get(labels::RELEASE).cloned().unwrap_or_default();
    if numbers(&release) > numbers(env!("CARGO_PKG_VERSION")) {
        return Decision::Leave(Update::Later(release));
    }
    if release == env!("CARGO_PKG_VERSION") {
        return Decision::Leave(Update::Current);
    }
    live.annotations_mut().insert(labels::RELEASE.to_owned(), env!("CARGO_PKG_VERSION").to_owned());
    live.spec = ours.spec;
    Decision::Replace(Box::new(live))
}

/// Major, minor and patch; what is no number counts as zero, and so as early.
fn numbers(release: &str) -> Vec<u64> {
    let core = release.split(['-', '+']).next().unwrap_or_default();
    core.split('.').map(|number| number.parse().unwrap_or(0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(release: Option<&str>) -> CustomResourceDefinition {
        let mut live = AuthService::crd();
        live.spec.names.short_names = None;
        live.metadata.resource_version = Some("7".to_owned());
        live.annotations_mut().insert("meta.helm.sh/release-name".to_owned(), "former".to_owned());
        if let Some(release) = release {
            live.annotations_mut().insert(labels::RELEASE.to_owned(), release.to_owned());
        }
        live
    }

    #[test]
    fn an_earlier_definition_is_replaced_and_keeps_its_owner() {
        for release in [None, Some("0.0.9"), Some("nonsense")] {
            let mut wanted = live(Some(env!("CARGO_PKG_VERSION")));
            wanted.spec = AuthService::crd().spec;
            assert_eq!(
                decide(live(release), AuthService::crd()),
                Decision::Replace(Box::new(wanted)),
                "{release:?}"
            );
        }
    }

    #[test]
    fn a_later_definition_is_left() {
        let left = Decision::Leave(Update::Later("999.0.0".to_owned()));
        assert_eq!(decide(live(Some("999.0.0")), AuthService::crd()), left);
        assert!(numbers("0.10.0") > numbers("0.9.1"));
        assert!(numbers("1.0.0-rc.1") > numbers("0.9"));
    }

    #[test]
    fn this_releases_definition_is_left() {
        let left = Decision::Leave(Update::Current);
        assert_eq!(decide(live(Some(env!("CARGO_PKG_VERSION"))), AuthService::crd()), left);
    }
}
