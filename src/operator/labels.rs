//! Labels and annotations on what the operator makes: written once, since the builders set them
//! and the watches, the poller and the chart select by them.

/// Field manager of every apply, and the value of [`MANAGED_BY`].
pub const MANAGER: &str = "authservice-operator";
/// What kind of program an object belongs to (recommended Kubernetes label).
pub const APP: &str = "app.kubernetes.io/name";
/// Which `AuthService` an object belongs to (recommended Kubernetes label).
pub const INSTANCE: &str = "app.kubernetes.io/instance";
/// Who keeps an object; always [`MANAGER`] (recommended Kubernetes label).
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// What an object is for; one of [`component`] (recommended Kubernetes label).
pub const COMPONENT: &str = "app.kubernetes.io/component";
/// The name of the `AuthService` an object belongs to. It tells ours from a stranger's, also for a
/// Secret that outlived its resource and so has no owner reference.
pub const OWNER: &str = "authservice.dev/name";
/// Annotation on an `AuthService`: the name of a lost Secret that may be made anew.
pub const REGENERATE: &str = "authservice.dev/regenerate";
/// Annotation on the custom resource definition: the release it belongs to.
pub const RELEASE: &str = "authservice.dev/release";

/// Values of [`COMPONENT`].
pub mod component {
    /// The server's pods and what belongs to them: the only pods that answer `/status`.
    pub const SERVER: &str = "server";
    /// The managed database.
    pub const DATABASE: &str = "database";
    /// The migration Job and its pods.
    pub const MIGRATION: &str = "migration";
}

/// Values of [`APP`].
pub mod app {
    /// The auth server, its migration included.
    pub const SERVER: &str = "auth-server";
    /// The managed database.
    pub const DATABASE: &str = "auth-database";
}
