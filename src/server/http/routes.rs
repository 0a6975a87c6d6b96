//! The routes of a router, kept beside it: axum tells a request's route only at the price of an
//! allocation for each request, traced or not.

use std::sync::Arc;

use axum::{Router, routing::MethodRouter};

use super::spans::{Tracing, traced};

/// A router that knows its routes.
pub(super) struct Routes<S> {
    router: Router<S>,
    paths: Vec<&'static str>,
}

impl<S: Clone + Send + Sync + 'static> Routes<S> {
    /// None yet.
    pub(super) fn new() -> Self {
        Self { router: Router::new(), paths: Vec::new() }
    }

    /// Adds a route.
    pub(super) fn route(mut self, path: &'static str, handler: MethodRouter<S>) -> Self {
        self.paths.push(path);
        Self { router: self.router.route(path, handler), ..self }
    }

    /// Does to the router what concerns no single route.
    pub(super) fn all(self, change: impl FnOnce(Router<S>) -> Router<S>) -> Self {
        Self { router: change(self.router), ..self }
    }

    /// The router, each of whose requests is one span where they are traced.
    pub(super) fn finish(self, state: S, tracing: Option<Tracing>) -> Router {
        let router = self.router.with_state(state);
        match tracing {
            Some(tracing) => traced(router, self.paths.into(), tracing),
            None => router,
        }
    }
}

/// The route of a path, as axum finds it.
pub(super) fn route_of(paths: &Arc<[&'static str]>, path: &str) -> Option<&'static str> {
    let exact = paths.iter().find(|route| **route == path);
    exact.or_else(|| paths.iter().find(|route| matches(route, path))).copied()
}

/// Whether a route with parts that callers choose has this path: `{name}` stands for one part of it,
/// `{*name}` for all that follow.
fn matches(route: &str, path: &str) -> bool {
    let (mut path, mut route) = (path, route);
    loop {
        let (wanted, further) =
            route.split_once('/').map_or((route, None), |(part, rest)| (part, Some(rest)));
        if wanted.starts_with("{*") {
            return !path.is_empty();
        }
        let (part, rest) = path.split_once('/').map_or((path, None), |(part, rest)| (part, Some(rest)));
        let fits = if wanted.starts_with('{') { !part.is_empty() } else { part == wanted };
        match (further, rest) {
            _ if !fits => return false,
            (Some(further), Some(rest)) => (route, path) = (further, rest),
            (None, None) => return true,
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_the_route_that_answers_it() {
        let paths: Arc<[_]> = [
            "/admin/users",
            "/admin/users/{id}",
            "/admin/users/{id}/unlock",
            "/validate",
            "/validate/",
            "/validate/{*path}",
        ]
        .into();
        for (path, route) in [
            ("/validate", Some("/validate")),
            ("/validate/", Some("/validate/")),
            ("/validate/shop/basket", Some("/validate/{*path}")),
            ("/validate/{*path}", Some("/validate/{*path}")),
            ("/admin/users", Some("/admin/users")),
            ("/admin/users/", None),
            ("/admin/users/7", Some("/admin/users/{id}")),
            ("/admin/users/7/", None),
            ("/admin/users/ann@x.io/unlock", Some("/admin/users/{id}/unlock")),
            ("/admin/users/7/lock", None),
            ("/admin/users//unlock", None),
            ("/", None),
            ("", None),
            ("/Validate", None),
        ] {
            assert_eq!(route_of(&paths, path), route, "{path}");
        }
    }
}
