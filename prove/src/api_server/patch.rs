//! The patches that are no apply.

use serde_json::Value;

use super::status::Status;

/// A change to an object.
#[derive(Debug, Clone)]
pub(super) enum Patch {
    /// RFC 7386.
    Merge(Value),
    /// RFC 6902.
    Json(json_patch::Patch),
}

impl Patch {
    /// The object with the change.
    pub(super) fn on(&self, object: &Value) -> Result<Value, Status> {
        let mut object = object.clone();
        match self {
            Self::Merge(patch) => json_patch::merge(&mut object, patch),
            Self::Json(patch) => {
                json_patch::patch(&mut object, patch).map_err(|_error| Status::unfit_patch())?;
            }
        }
        Ok(object)
    }
}
