//! The last step: writes status when it differs, and publishes the Events.

use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
    runtime::events::Event,
};
use serde_json::{Value, json};

use super::{
    Error, events,
    status::{self, View},
};
use crate::{
    api::{AuthService, AuthServiceStatus},
    operator::{context::Context, labels},
};

/// Writes status and Events; answers the status.
pub async fn report(ctx: &Context, view: &View<'_>) -> Result<AuthServiceStatus, Error> {
    publish(ctx, view.service, events::of_changes(&view.outcome.changes)).await;
    let status = status::status(view);
    let before = view.service.status.as_ref();
    if before != Some(&status) {
        write(ctx, view.service, &status).await?;
        publish(ctx, view.service, events::of_status(before, &status, Some(&status::migrated(view)))).await;
    }
    Ok(status)
}

/// One write, refused when somebody wrote in between. Absent fields are named as null: a merge
/// patch leaves alone what it does not name.
async fn write(ctx: &Context, service: &AuthService, status: &AuthServiceStatus) -> Result<(), Error> {
    let name = service.name_any();
    let failed = |source| Error::Status { name: name.clone(), source };
    let mut value = serde_json::to_value(status).map_err(|error| failed(kube::Error::SerdeError(error)))?;
    name_absent(&mut value, &["observedGeneration", "conditions", "selector", "url", "database", "token"]);
    name_absent(&mut value["database"], &["version", "schemaVersion"]);
    name_absent(&mut value["token"], &["keyId", "step", "rotatedAt"]);
    let body = json!({"metadata": {"resourceVersion": service.resource_version(), "uid": service.uid()}, "status": value});
    let api: Api<AuthService> = Api::namespaced(ctx.client.clone(), &service.namespace().unwrap_or_default());
    let params = PatchParams { field_manager: Some(labels::MANAGER.to_owned()), ..PatchParams::default() };
    api.patch_status(&name, &params, &Patch::Merge(&body)).await.map_err(failed)?;
    Ok(())
}

/// Names the absent ones of these fields as null; a value that is no object has none.
fn name_absent(value: &mut Value, fields: &[&str]) {
    if let Value::Object(object) = value {
        for field in fields {
            object.entry(*field).or_insert(Value::Null);
        }
    }
}

/// Events are a courtesy: one that cannot be published is logged and forgotten.
async fn publish(ctx: &Context, service: &AuthService, events: impl IntoIterator<Item = Event>) {
    let reference = service.object_ref(&());
    for event in events {
        if let Err(error) = ctx.recorder.publish(&event, &reference).await {
            tracing::debug!(name = service.name_any(), reason = event.reason, %error, "an Event was not published");
        }
    }
}
