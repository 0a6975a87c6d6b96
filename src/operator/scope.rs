//! Which namespaces the operator serves, and what of them it hears about.

use std::{convert::Infallible, fmt::Debug, future::ready, sync::Arc};

use futures::{Stream, StreamExt, stream};
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::{Deployment, StatefulSet},
        batch::v1::Job,
        core::v1::{PersistentVolumeClaim, Secret, Service},
        policy::v1::PodDisruptionBudget,
    },
};
use kube::{
    Api, Client, Resource, ResourceExt,
    core::{DeserializeGuard, PartialObjectMeta},
    runtime::{
        WatchStreamExt,
        controller::{ReconcileReason, ReconcileRequest},
        reflector::{ObjectRef, Store, reflector, store},
        watcher::{self, watcher},
    },
};
use serde::de::DeserializeOwned;

use super::{
    context::{Context, ObjectKey},
    labels, poller,
};
use crate::api::AuthService;

/// The primary resource; one that cannot be decoded is an error among the others.
pub type Guarded = DeserializeGuard<AuthService>;
/// Requests to reconcile. An interrupted watch is logged, counted and resumed under its own
/// backoff, so that it delays no other.
pub type Requests = stream::BoxStream<'static, Result<Request, Infallible>>;
/// Which resource is to be reconciled, and why, for the logs.
pub type Request = ReconcileRequest<Guarded>;

/// The whole cluster, or one namespace by rights in that namespace alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Every namespace.
    Cluster,
    /// This namespace.
    Namespace(String),
}

impl Scope {
    /// One scope for each namespace, or the cluster when none is named.
    #[must_use]
    pub fn of(namespaces: &[String]) -> Vec<Self> {
        if namespaces.is_empty() {
            vec![Self::Cluster]
        } else {
            let mut names = namespaces.to_vec();
            names.sort();
            names.dedup();
            names.into_iter().map(Self::Namespace).collect()
        }
    }

    /// An interface to the objects of a kind in this scope.
    #[must_use]
    pub fn api<K>(&self, client: &Client) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        match self {
            Self::Cluster => Api::all(client.clone()),
            Self::Namespace(namespace) => Api::namespaced(client.clone(), namespace),
        }
    }

    /// Whether a namespace lies in this scope.
    #[must_use]
    pub fn contains(&self, namespace: &str) -> bool {
        match self {
            Self::Cluster => true,
            Self::Namespace(name) => name == namespace,
        }
    }

    /// The store of this scope's resources, and everything that asks for one to be reconciled: its
    /// own changes, those of its children, of Secrets it refers to, and of what its pods say.
    pub fn listen(&self, ctx: &Arc<Context>) -> (Store<Guarded>, Requests) {
        let (store, writer) = store();
        let primary = watcher(self.api::<Guarded>(&ctx.client), watcher::Config::default())
            .modify(|resource| resource.managed_fields_mut().clear());
        let primary = told(ctx, reflector(writer, primary).default_backoff().touched_objects());
        let requests = [
            primary
                .map(|resource| request(&ObjectKey::of(&resource), ReconcileReason::ObjectUpdated))
                .boxed(),
            self.children::<Deployment>(ctx),
            self.children::<StatefulSet>(ctx),
            self.children::<Service>(ctx),
            self.children::<PodDisruptionBudget>(ctx),
            self.children::<Job>(ctx),
            self.children::<PersistentVolumeClaim>(ctx),
            self.secrets(ctx),
            poller::changes(self.clone(), Arc::clone(ctx))
                .map(|key| request(&key, custom("a pod's status")))
                .boxed(),
        ];
        (store, stream::select_all(requests).map(Ok).boxed())
    }

    /// Resources whose managed children of a kind were touched.
    fn children<K>(&self, ctx: &Arc<Context>) -> stream::BoxStream<'static, Request>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + Send + 'static,
    {
        let config =
            watcher::Config::default().labels(&format!("{}={}", labels::MANAGED_BY, labels::MANAGER));
        let concerned = |child: PartialObjectMeta<K>| {
            let reason = touched(&child);
            stream::iter(owners(&child)).map(move |key| request(&key, reason.clone()))
        };
        self.metadata::<K>(ctx, config).flat_map(concerned).boxed()
    }

    /// Resources to which a touched Secret belongs, or which refer to it. All Secrets are watched,
    /// by their metadata alone: those that users refer to carry no label of ours.
    fn secrets(&self, ctx: &Arc<Context>) -> stream::BoxStream<'static, Request> {
        let context = Arc::clone(ctx);
        let secrets = self.metadata::<Secret>(ctx, watcher::Config::default());
        let concerned = move |secret: PartialObjectMeta<Secret>| {
            let mut keys = context.secrets.referrers(&ObjectKey::of(&secret));
            keys.extend(owners(&secret));
            let reason = touched(&secret);
            stream::iter(keys).map(move |key| request(&key, reason.clone()))
        };
        secrets.flat_map(concerned).boxed()
    }

    fn metadata<K>(
        &self,
        ctx: &Arc<Context>,
        config: watcher::Config,
    ) -> stream::BoxStream<'static, PartialObjectMeta<K>>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + Send + 'static,
    {
        told(
            ctx,
            watcher(self.api::<PartialObjectMeta<K>>(&ctx.client), config)
                .default_backoff()
                .touched_objects(),
        )
    }
}

fn request(key: &ObjectKey, reason: ReconcileReason) -> Request {
    ReconcileRequest { obj_ref: key.to_ref(), reason }
}

fn custom(reason: impl Into<String>) -> ReconcileReason {
    ReconcileReason::Custom { reason: reason.into() }
}

fn touched<K: Resource<DynamicType = ()>>(object: &K) -> ReconcileReason {
    custom(format!("{} {}", K::kind(&()), object.name_any()))
}

/// The objects of a watch; its interruptions are logged and counted.
fn told<K>(
    ctx: &Arc<Context>,
    objects: impl Stream<Item = watcher::Result<K>> + Send + 'static,
) -> stream::BoxStream<'static, K>
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Send + 'static,
{
    let metrics = Arc::clone(&ctx.metrics);
    objects
        .filter_map(move |object| {
            if let Err(error) = &object {
                let kind = K::kind(&());
                tracing::warn!(%error, %kind, "the watch was interrupted and is resumed");
                metrics.watch_error(&kind);
            }
            ready(object.ok())
        })
        .boxed()
}

/// The `AuthService`s an object belongs to: by our label, which a Secret keeps that outlives its
/// resource, and by its owner references, which stay when somebody edits the label.
fn owners<K: Resource>(object: &K) -> Vec<ObjectKey> {
    let namespace = object.namespace().unwrap_or_default();
    let labelled = object.labels().get(labels::OWNER).cloned();
    let referenced = object.owner_references().iter().filter_map(|owner| {
        let owner = ObjectRef::<AuthService>::from_owner_ref(Some(&namespace), owner, ())?;
        Some(owner.name)
    });
    let mut names: Vec<String> = labelled.into_iter().chain(referenced).collect();
    names.sort();
    names.dedup();
    names.into_iter().map(|name| ObjectKey { namespace: namespace.clone(), name }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(metadata: &serde_json::Value) -> PartialObjectMeta<Secret> {
        serde_json::from_value(
            serde_json::json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata}),
        )
        .unwrap()
    }

    fn key(name: &str) -> ObjectKey {
        ObjectKey { namespace: "market".to_owned(), name: name.to_owned() }
    }

    #[test]
    fn an_object_belongs_to_the_resource_its_label_or_its_owner_reference_names() {
        let owner = |kind: &str, api: &str| serde_json::json!({"apiVersion": api, "kind": kind, "name": "gate", "uid": "u"});
        let ours = owner("AuthService", "authservice.dev/v1alpha1");
        for (metadata, expected) in [
            (
                serde_json::json!({"namespace": "market", "labels": {"authservice.dev/name": "gate"}}),
                vec![key("gate")],
            ),
            (serde_json::json!({"namespace": "market", "ownerReferences": [ours]}), vec![key("gate")]),
            (
                serde_json::json!({"namespace": "market", "labels": {"authservice.dev/name": "door"}, "ownerReferences": [ours]}),
                vec![key("door"), key("gate")],
            ),
            (
                serde_json::json!({"namespace": "market", "ownerReferences": [owner("ReplicaSet", "apps/v1")]}),
                vec![],
            ),
            (serde_json::json!({"namespace": "market"}), vec![]),
        ] {
            assert_eq!(owners(&secret(&metadata)), expected, "{metadata}");
        }
    }

    #[test]
    fn namespaces_named_twice_are_watched_once_and_none_means_the_cluster() {
        assert_eq!(Scope::of(&[]), [Scope::Cluster]);
        let names = ["b", "a", "b"].map(str::to_owned);
        assert_eq!(Scope::of(&names), [Scope::Namespace("a".to_owned()), Scope::Namespace("b".to_owned())]);
    }
}
